"""What checking an image costs beside decoding it, and what ``min_side`` saves of a view's loading time.

    MMTINYVIT_DATA=... python benchmarks/decoding.py [--quick] [--images 40]

The check is timed on the photos of MMTINYVIT_DATA/imagenet_sample. For ``min_side``, photos of COCO (640 pixels wide)
from the same folder are resized to 500 x 375 and 2000 x 1500 pixels, get grain, since enlarged photos are smooth, and
are saved as JPEG of quality 92. A view is read, decoded, augmented as in the IN-21K recipe at 224 pixels, and packed.
All in the processor time of one core, each way in turn.
"""
import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from harness import compare, report
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS

from mmtinyvit.datasets.images.check import check_image
from mmtinyvit.paths import config_root


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=40, help='enlarged photos; ten times as many are checked')
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--quick', action='store_true', help='10 images, 3 rounds')
    parser.add_argument('--json', metavar='FILE', help='add the tables to this file')
    args = parser.parse_args()
    return argparse.Namespace(**vars(args) | (dict(images=10, rounds=3) if args.quick else {}))


def find_photos(data: str, folder: str, num: int) -> list[Path]:
    files = sorted(path for path in Path(data, folder).rglob('*') if path.suffix.lower() in ('.jpg', '.jpeg'))
    if not files:
        raise SystemExit(f'{data}/{folder} has no JPEG files: set MMTINYVIT_DATA to the folder with the real photos.')
    return [files[i * len(files) // num] for i in range(min(num, len(files)))]


def resized(path: Path, width: int, height: int, dice: np.random.Generator) -> bytes:
    """A photo of another size as JPEG."""
    image = cv2.resize(cv2.imread(str(path)), (width, height), interpolation=cv2.INTER_CUBIC)
    grain = dice.normal(0, 3, image.shape[:2])[..., None]
    image = (image + grain).clip(0, 255).astype(np.uint8)
    return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def clocked(function: Callable[[Any], object], files: list) -> Callable[[], float]:
    """Processor seconds for one file."""
    def run() -> float:
        start = time.process_time()
        for file in files:
            function(file)
        return (time.process_time() - start) / len(files)

    return run


def main() -> None:
    args = parse_args()
    data = os.environ.get('MMTINYVIT_DATA') or ''
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    init_default_scope('mmpretrain')
    files = [path.read_bytes() for path in find_photos(data, 'imagenet_sample', 10 * args.images)]
    report(f'checking a photo, {len(files)} of them', compare({
        'decoding': clocked(lambda file: cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR), files),
        'check_image': clocked(lambda file: check_image(file, 'photo.jpg'), files),
    }, args.rounds), args.json)

    load_cfg, *cfgs = Config.fromfile(config_root() / '_base_/imagenet1k.py').train_pipeline
    augment, pack = map(TRANSFORMS.build, cfgs)
    photos = find_photos(data, 'coco_semseg/images', args.images)
    for width, height in ((500, 375), (2000, 1500)):
        with tempfile.TemporaryDirectory() as scratch:
            dice = np.random.default_rng(0)
            files = [Path(scratch, path.name) for path in photos]
            size = sum(new.write_bytes(resized(path, width, height, dice))
                       for new, path in zip(files, photos, strict=True)) / len(files)
            loads = {side: TRANSFORMS.build(load_cfg | dict(min_side=side)) for side in (None, 750, 375, 188)}
            infos = [dict(img_path=str(path), sample_key=path.name, view=0, gt_label=0) for path in files]
            views = {side: lambda info, load=load: pack(augment(load(dict(info)))) for side, load in loads.items()}
            results = compare({f'min_side={side}': clocked(view, infos) for side, view in views.items()}, args.rounds)
            for row, load in zip(results.values(), loads.values(), strict=True):
                row['decoded at'] = ' x '.join(map(str, load(dict(infos[0]))['img_shape'][::-1]))
        report(f'one view of a photo of {width} x {height}, {size / 1000:.0f} kB', results, args.json)


if __name__ == '__main__':
    main()
