"""Write scikit-learn's digits as image files, class per folder.

    python tools/dataset_converters/digits.py work_dirs/demo/digits

They are real handwriting that ships in a dependency of the demo.
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

SOURCE = ('Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, '
          'CC BY 4.0; 8 x 8 pixels, as shipped in scikit-learn')
_INK = 16  # the darkest value in the data


def write_digits(out: str | os.PathLike, size: int = 32, val_per_class: int = 50, test_per_class: int = 0) -> dict:
    """Write ``out/{train,val,test}/<digit>/<number>.png`` and ``out/meta.json``.

    The images are 8-bit grey, white ink on black, scaled up with bicubic interpolation. The split draws no random
    numbers: the held-out images of each digit are evenly spaced in the data's order, which spreads the writers. The
    folder appears complete or not at all; if it is there already with the same settings, nothing is done.

    Args:
        out: Folder to make.
        size: Side in pixels.
        val_per_class: Images of each digit in ``val``.
        test_per_class: Images of each digit in ``test``; 0 leaves the split out.

    Returns:
        The content of ``meta.json``: source, settings, and the number of images in each split.

    Raises:
        UserError: ``out`` holds something else, or more images are held out than a digit has.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    split_of = _split(digits.target, {'val': val_per_class, 'test': test_per_class})
    counts = {name: int(np.sum(split_of == name)) for name in np.unique(split_of).tolist()}
    meta = {'source': SOURCE, 'size': size, 'images': counts}
    out = Path(out)
    if out.exists():
        if (out / 'meta.json').is_file() and json.loads((out / 'meta.json').read_text()) == meta:
            return meta
        raise UserError(f'{out} exists and holds something else: remove it, or name another folder.')
    partial = out.with_name(f'.{out.name}.{os.getpid()}.partial')
    try:
        for number, (image, target) in enumerate(zip(digits.images, digits.target, strict=True)):
            folder = partial / split_of[number] / str(target)
            folder.mkdir(parents=True, exist_ok=True)
            grey = Image.fromarray(np.round(image * (255 / _INK)).astype(np.uint8))
            grey.resize((size, size), Image.Resampling.BICUBIC).save(folder / f'{number:04d}.png')
        (partial / 'meta.json').write_text(json.dumps(meta, indent=2) + '\n')
        partial.rename(out)
    except OSError as error:
        raise UserError(f'The digits cannot be written to {out} ({error.strerror}): name another folder.') from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return meta


def _split(target: np.ndarray, held_out: dict[str, int]) -> np.ndarray:
    """The name of each image's split, ``(N,)``; those not held out are ``'train'``."""
    split_of = np.full(len(target), 'train', dtype='<U5')
    total = sum(held_out.values())
    for digit in np.unique(target):
        members = np.flatnonzero(target == digit)
        if total >= len(members):
            raise UserError(f'{total} images of every digit cannot be held out: there are {len(members)} of {digit}.')
        chosen = members[np.arange(total) * len(members) // max(total, 1)]
        names = np.repeat(list(held_out), list(held_out.values()))
        # Interleave the splits, so that each of them is spread over all writers.
        split_of[chosen] = names[np.argsort(np.concatenate([np.linspace(0, 1, n) for n in held_out.values()]),
                                            kind='stable')]
    return split_of


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write scikit-learn's digits as image files.")
    parser.add_argument('out', help='folder to make')
    parser.add_argument('--size', type=int, default=32, help='side of the images in pixels (default: 32)')
    parser.add_argument('--val', type=int, default=50, metavar='N', help='images of each digit in val (default: 50)')
    parser.add_argument('--test', type=int, default=0, metavar='N', help='images of each digit in test (default: 0)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    meta = write_digits(args.out, args.size, args.val, args.test)
    table = row_table('folder', 'pixels', *meta['images'], words=('folder', ))
    table.add_row(args.out, f'{args.size} x {args.size}', *(f'{count:,}' for count in meta['images'].values()))
    print_tables(table)


if __name__ == '__main__':
    run_command(main)
