"""What saving a store costs beyond the teacher, and what making several views of an image at once saves.

    python benchmarks/saving.py [--quick] [--only records views ray] [--model mobilenetv2_100] [--photos FOLDER]

The teacher looks at shards of views that lie in memory: alone, and with all that the saving loop adds (the top K and
the tail on the teacher's device, canaries, and packing and writing the shard before in another thread). Then views are
loaded on one core, one to eight of an image whenever it is decoded. Photos as for replay.py; the larger ones are the
same photos, enlarged to the usual size of ImageNet's, a short side of 375 pixels. The records' part ends with shards of
4,096 written into a folder and into a bucket of this machine. Last, a Ray cluster of this machine has units that sleep.
"""
import argparse
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import torch
from harness import compare, report
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from replay import find_photos
from saving_fleet import bucket, pool

from mmtinyvit.datasets import ViewDataset, ViewsAtOnce
from mmtinyvit.engine.record_rule import RecordRule
from mmtinyvit.engine.teacher import Teacher
from mmtinyvit.paths import config_root
from mmtinyvit.store import LogitWriter, Record

VIEWS_AT_ONCE = (1, 2, 4, 8)
PARTS = ['records', 'views', 'ray']


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default='mobilenetv2_100', help='of timm, with random weights')
    parser.add_argument('--amp', action='store_true', help='the teacher under autocast')
    parser.add_argument('--samples', type=int, default=256, help='views in a shard')
    parser.add_argument('--batch-size', type=int, default=32, help="the teacher's (default: 32)")
    parser.add_argument('--images', type=int, default=48, help='photos of the second part')
    parser.add_argument('--photos', metavar='FOLDER', help='folder with JPEG files')
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('--threads', type=int, default=2, help="the teacher's")
    parser.add_argument('--only', nargs='+', choices=PARTS, default=PARTS)
    parser.add_argument('--quick', action='store_true', help='fewer views and repeats')
    parser.add_argument('--json', metavar='FILE', help='add the tables to this file')
    args = parser.parse_args()
    if args.quick:
        args.samples, args.images, args.repeats = min(args.samples, 64), min(args.images, 8), min(args.repeats, 3)
    return args


def dataset(root: Path, photos: list[str]) -> dict:
    """Photos with the views of the ImageNet-1K recipes."""
    recipe = Config.fromfile(config_root() / '_base_/imagenet1k.py')
    (root / 'photos').mkdir(parents=True)
    for i, photo in enumerate(photos):
        (root / 'photos' / f'{i:04d}.jpg').symlink_to(Path(photo).resolve())
    return dict(type='mmpretrain.CustomDataset', data_root=str(root), data_prefix='photos', with_label=False,
                pipeline=[recipe.train_pipeline[0], dict(recipe.replay, key_root=str(root)),
                          recipe.train_pipeline[2]])


# ---------------------------------------------------------------- what the records cost
def saving(args: argparse.Namespace, folder: Path, photos: list[str], num_classes: int, topk: int) -> float:
    """A teacher with and without the records of one setting. Gives back its seconds per view."""
    model = MODELS.build(dict(
        type='TimmClassifier', model_name=args.model, pretrained=False, num_classes=num_classes,
        data_preprocessor=dict(type='ClsDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)))
    model.to('cuda' if torch.cuda.is_available() else 'cpu')
    teacher = Teacher(model, dataset(folder, photos), RecordRule(topk), amp=args.amp)
    data = teacher.collate([teacher.dataset[0, i] for i in range(args.batch_size)])
    batches = [np.arange(first, first + args.batch_size) for first in range(0, args.samples, args.batch_size)]
    request = dict(topk=topk, num_classes=num_classes, samples_per_shard=args.samples)
    keys, views = [f'{i:04d}.jpg' for i in range(args.samples)], count()
    with LogitWriter(folder / 'store', request, keys) as writer, ThreadPoolExecutor(1) as disk:

        def fill() -> Record:
            canaries, records = {}, []
            for positions in batches:
                records.append(teacher.ask(data))
                canaries |= teacher.canaries(data, positions, args.samples)
            return Record.concat(records)

        def write(record: Record) -> None:
            writer.write_shard(writer.unit(next(views), 0), record)

        ready = [fill()]

        def whole() -> None:
            writing = disk.submit(write, ready.pop())
            ready.append(fill())
            writing.result()

        def alone() -> None:
            for _ in batches:
                teacher.logits(data).cpu()

        logits = teacher.logits(data)
        names = [sample.sample_key for sample in data['data_samples']]
        parts = compare({
            'the teacher': alone,
            'the teacher, and all that saving adds': whole,
            '- its top K and tail': lambda: [teacher.rule(logits, 0, 0, names) for _ in batches],
            '- packing and writing, by themselves': lambda: write(ready[0]),
        }, args.repeats)
    per_view = {name: {'per view (us)': 1e6 * row['median_s'] / args.samples, '% of the teacher': 100 * row['ratio']}
                for name, row in parts.items()}
    report(f'saving the top {topk} of {num_classes:,}, {args.model}{", autocast" * args.amp}', per_view, args.json,
           **vars(args))
    return parts['the teacher']['median_s'] / args.samples


# ---------------------------------------------------------------- several views at once
def enlarge(photos: list[str], folder: Path) -> list[str]:
    """The photos with a short side of 375 pixels."""
    folder.mkdir()
    for i, photo in enumerate(photos):
        image = cv2.imread(photo)
        scale = 375 / min(image.shape[:2])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f'{i:04d}.jpg'), image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return sorted(map(str, folder.iterdir()))


def at_once(args: argparse.Namespace, folder: Path, photos: list[str], title: str) -> None:
    """Views per second of one core, by how many are made of a decoded image."""
    torch.set_num_threads(1)
    items = ViewsAtOnce(ViewDataset(DATASETS.build(dataset(folder, photos))))
    num_views = max(VIEWS_AT_ONCE)

    def load(number: int) -> Callable[[], None]:

        def run() -> None:
            for first in range(0, num_views, number):
                for index in range(len(photos)):
                    items[range(first, first + number), index]

        return run

    results = compare({f'{number}': load(number) for number in VIEWS_AT_ONCE}, args.repeats, warmup=1)
    views = num_views * len(photos)
    report(f'views made at once, {len(photos)} {title}, one core', {
        name: {'ms per view': 1e3 * row['median_s'] / views, 'views/s': views / row['median_s'],
               'times as fast as one': 1 / row['ratio']} for name, row in results.items()}, args.json, **vars(args))


def main() -> None:
    args = parse_args()
    cv2.setNumThreads(0)
    init_default_scope('mmpretrain')
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        photos = find_photos(args.photos, max(args.images, args.batch_size), folder)
        torch.set_num_threads(args.threads)
        if 'records' in args.only:
            for num_classes, topk in ((1000, 10), (21_841, 100)):
                place = folder / f'top{topk}'
                bucket(args, place, saving(args, place, photos[:args.batch_size], num_classes, topk), topk, num_classes)
        if 'views' in args.only:
            photos = photos[:args.images]
            at_once(args, folder / 'small', photos, 'photos as they are')
            at_once(args, folder / 'large', enlarge(photos, folder / 'enlarged'), 'photos enlarged to 375 pixels')
        if 'ray' in args.only:
            pool(args, folder)


if __name__ == '__main__':
    main()
