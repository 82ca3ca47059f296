"""Scatter the demo's digits over larger images: detection data in COCO's layout.

    python tools/dataset_converters/digit_canvases.py work_dirs/demo/digits work_dirs/demo/canvases
"""
import argparse
import json
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.tables import print_tables, row_table
from mmtinyvit.errors import UserError

SIDES = (22, 40)  # of a digit on a canvas, in pixels
INK = 64  # grey value from which a pixel belongs to the digit
_TRIES = 50  # to find a free place for a digit


def write_canvases(digits: str | os.PathLike, out: str | os.PathLike, num_train: int = 400, num_val: int = 100,
                   size: int = 96, seed: int = 0) -> dict:
    """Write ``out/{train,val}/<number>.png`` and ``out/annotations/{train,val}.json``.

    Each canvas is ``size`` x ``size`` grey noise with two to five digits of 22 to 40 pixels that do not overlap; a box
    holds the ink of its digit. Training canvases show digits of ``digits/train``, validation canvases those of
    ``digits/val``, so that none is seen before. The folder appears complete or not at all; if it is there already with
    the same settings, nothing is done.

    Args:
        digits: The folder that ``tools/dataset_converters/digits.py`` wrote.
        out: Folder to make.
        num_train: Canvases to train on.
        num_val: Canvases to test on.
        size: Their side in pixels.
        seed: Of the places.

    Returns:
        The content of ``out/meta.json``: source, settings, and numbers of images and boxes.

    Raises:
        UserError: ``digits`` is not there, or ``out`` holds something else.
    """
    digits, out = Path(digits), Path(out)
    if not (digits / 'meta.json').is_file() or not all((digits / split / '9').is_dir() for split in ('train', 'val')):
        raise UserError(f'{digits} holds no digits: write them with `python tools/dataset_converters/digits.py '
                        f'{digits}`.')
    if size < 2 * SIDES[1] or min(num_train, num_val) < 1:
        raise UserError(f'size={size}, num_train={num_train} and num_val={num_val} make no sense: a canvas needs '
                        f'{2 * SIDES[1]} pixels, and a split an image.')
    source = json.loads((digits / 'meta.json').read_text())['source']
    settings = dict(source=source, size=size, seed=seed, images=dict(train=num_train, val=num_val))
    if out.exists():
        known = json.loads((out / 'meta.json').read_text()) if (out / 'meta.json').is_file() else {}
        if settings.items() <= known.items():
            return known
        raise UserError(f'{out} exists and holds something else: remove it, or name another folder.')
    partial = out.with_name(f'.{out.name}.{os.getpid()}.partial')
    try:
        boxes = {split: _write_split(digits / split, partial, split, count, size, np.random.default_rng([seed, number]))
                 for number, (split, count) in enumerate(settings['images'].items())}
        meta = settings | dict(boxes=boxes)
        (partial / 'meta.json').write_text(json.dumps(meta, indent=2) + '\n')
        partial.rename(out)
    except OSError as error:
        raise UserError(f'The canvases cannot be written to {out} ({error.strerror}): name another folder.') from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return meta


def _write_split(digits: Path, out: Path, split: str, count: int, size: int, rng: np.random.Generator) -> int:
    """Write one split; returns the number of boxes."""
    glyphs = [(int(path.parent.name), np.asarray(Image.open(path))) for path in sorted(digits.glob('*/*.png'))]
    images, annotations = [], []
    (out / split).mkdir(parents=True)
    for image_id in range(1, count + 1):
        canvas = rng.integers(0, 48, (size, size)).astype(np.uint8)
        taken: list[tuple[int, int, int]] = []
        for _ in range(rng.integers(2, 6)):
            place = _free_place(taken, size, rng)
            if place is None:
                continue
            taken.append(place)
            x, y, side = place
            digit, glyph = glyphs[rng.integers(len(glyphs))]
            glyph = np.asarray(Image.fromarray(glyph).resize((side, side), Image.Resampling.BICUBIC))
            region = canvas[y:y + side, x:x + side]
            np.maximum(region, glyph, out=region)
            rows, columns = np.nonzero(glyph >= INK)
            left, top = x + int(columns.min()), y + int(rows.min())
            w, h = int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1
            annotations.append(dict(id=len(annotations) + 1, image_id=image_id, category_id=digit + 1,
                                    bbox=[left, top, w, h], area=w * h, iscrowd=0))
        name = f'{image_id:04d}.png'
        Image.fromarray(canvas).save(out / split / name)
        images.append(dict(id=image_id, file_name=name, height=size, width=size))
    (out / 'annotations').mkdir(exist_ok=True)
    (out / 'annotations' / f'{split}.json').write_text(json.dumps(dict(
        images=images, annotations=annotations,
        categories=[dict(id=digit + 1, name=str(digit)) for digit in range(10)])) + '\n')
    return len(annotations)


def _free_place(taken: list[tuple[int, int, int]], size: int, rng: np.random.Generator) -> tuple[int, int, int] | None:
    """Left, top and side of a square that touches none of ``taken``; None if chance does not find one."""
    for _ in range(_TRIES):
        side = int(rng.integers(SIDES[0], SIDES[1] + 1))
        x, y = rng.integers(0, size - side + 1, 2).tolist()
        if all(x + side <= left or left + other <= x or y + side <= top or top + other <= y
               for left, top, other in taken):
            return x, y, side
    return None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Scatter digits over larger images, with boxes.')
    parser.add_argument('digits', help='folder that tools/dataset_converters/digits.py wrote')
    parser.add_argument('out', help='folder to make')
    parser.add_argument('--train', type=int, default=400, metavar='N', help='images to train on (default: 400)')
    parser.add_argument('--val', type=int, default=100, metavar='N', help='images to test on (default: 100)')
    parser.add_argument('--size', type=int, default=96, help='side of the images in pixels (default: 96)')
    parser.add_argument('--seed', type=int, default=0, help='of the places (default: 0)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    meta = write_canvases(args.digits, args.out, args.train, args.val, args.size, args.seed)
    table = row_table('folder', 'pixels', 'split', 'images', 'boxes', words=('folder', 'split'))
    for split in meta['images']:
        table.add_row(args.out, f'{args.size} x {args.size}', split, f'{meta["images"][split]:,}',
                      f'{meta["boxes"][split]:,}')
    print_tables(table)


if __name__ == '__main__':
    run_command(main)
