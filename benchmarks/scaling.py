"""Time and memory of TinyViT's four maps as images grow: windows make both linear in the area.

    python benchmarks/scaling.py --arch 5m
    python benchmarks/scaling.py --arch 21m --mode train --sides 256 512 800 1066 1333 --json scaling.json

Square images. Each series is fitted by a straight line over the area and by a power of it; an exponent of 1 is linear,
and global attention would tend to 2.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch
from harness import compare, machine, peak_bytes
from rich.console import Console
from rich.table import Table

from mmtinyvit.models.backbones import TinyViT

SIDES = (256, 384, 512, 640, 800, 1024, 1333)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--arch', choices=['5m', '11m', '21m'], default='5m')
    parser.add_argument('--mode', choices=['eval', 'train'], default='eval', help='train: forward and backward')
    parser.add_argument('--sides', type=int, nargs='+', default=list(SIDES), help='pixels')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--json', metavar='FILE', help='write the measurements to this file')
    return parser.parse_args()


def fit(areas: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Straight line and power law through ``values`` over ``areas``.

    Returns:
        dict: ``exponent`` of the power law; ``slope`` per megapixel, ``offset`` and ``r2`` of the line.
    """
    slope, offset = np.polyfit(areas, values, 1)
    residual = values - (slope * areas + offset)
    exponent = np.polyfit(np.log(areas), np.log(values), 1)[0]
    r2 = 1 - residual @ residual / np.sum((values - values.mean())**2)
    return dict(exponent=float(exponent), slope=float(slope), offset=float(offset), r2=float(r2))


def measure(model: TinyViT, side: int, train: bool, repeats: int) -> tuple[float, int]:
    """Seconds and peak bytes of one image."""
    image = torch.randn(1, 3, side, side, device=next(model.parameters()).device)

    def step() -> None:
        if not train:
            with torch.inference_mode():
                model(image)
            return
        model.zero_grad()
        sum(found.square().mean() for found in model(image)).backward()

    seconds = compare({'step': step}, repeats=repeats, warmup=1)['step']['median_s']
    return seconds, peak_bytes(step)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    train = args.mode == 'train'
    model = TinyViT(args.arch, out_indices=(0, 1, 2, 3), gap_before_output=False, norm_eval=True).train(train)
    model.to('cuda' if torch.cuda.is_available() else 'cpu')
    rows = [dict(side=side, **dict(zip(('seconds', 'bytes'), measure(model, side, train, args.repeats), strict=True)))
            for side in args.sides]
    areas = np.array([row['side']**2 / 1e6 for row in rows])
    fits = {name: fit(areas, np.array([row[name] for row in rows], float)) for name in ('seconds', 'bytes')}
    table = Table('side', 'megapixels', 'ms', 'ms per megapixel', 'peak MiB', 'MiB per megapixel',
                  title=f'TinyViT-{args.arch.upper()}, {args.mode}, one image', caption=machine())
    for row, area in zip(rows, areas, strict=True):
        milliseconds, mebibytes = 1e3 * row['seconds'], row['bytes'] / 2**20
        table.add_row(str(row['side']), f'{area:.3f}', f'{milliseconds:.1f}', f'{milliseconds / area:.0f}',
                      f'{mebibytes:.0f}', f'{mebibytes / area:.0f}')
    console = Console()
    console.print(table)
    for name, title in (('seconds', 'time'), ('bytes', 'memory')):
        console.print(f'{title}: grows as area ** {fits[name]["exponent"]:.3f}; a straight line explains '
                      f'{100 * fits[name]["r2"]:.2f} % of it', highlight=False)
    if args.json:
        Path(args.json).write_text(json.dumps(dict(
            arch=args.arch, mode=args.mode, machine=machine(), rows=rows, fits=fits), indent=2) + '\n')


if __name__ == '__main__':
    main()
