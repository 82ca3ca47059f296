"""How cost grows: with pixels, with the samples of a store, and with its views.

    python benchmarks/scaling.py --arch 5m
    python benchmarks/scaling.py --arch 21m --mode train --sides 256 512 800 1066 1333 --json scaling.json
    python benchmarks/scaling.py --of samples views

Each series is fitted by a straight line. Pixels: time and memory of TinyViT's four maps of one square image, also
fitted by a power of the area; windows make both linear, and the exponent of global attention would tend to 2. Samples
and views: time to write a store and its bytes, beside a constant for the files that every store has; what reading one
record takes must not grow at all.
"""
import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from harness import compare, peak_bytes, report
from teacher_outputs import sparsify, synthetic_outputs

from mmtinyvit.models.backbones import TinyViT
from mmtinyvit.store import LogitStore, LogitWriter, Record, make_codec

SIDES = (256, 384, 512, 640, 800, 1024, 1333)
SAMPLES = (1_000, 4_000, 16_000, 64_000, 256_000)
VIEWS = (1, 2, 4, 8)
TOPK, CLASSES = 10, 1000
READS = 2000


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--of', choices=['pixels', 'samples', 'views'], nargs='+', default=['pixels'])
    parser.add_argument('--arch', choices=['5m', '11m', '21m'], default='5m')
    parser.add_argument('--mode', choices=['eval', 'train'], default='eval', help='train: forward and backward')
    parser.add_argument('--sides', type=int, nargs='+', default=list(SIDES), help='pixels')
    parser.add_argument('--samples', type=int, nargs='+', default=list(SAMPLES), help='at most 14,000,000')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--quick', action='store_true', help='three sides up to 512, and three sizes of a store')
    parser.add_argument('--json', metavar='FILE', help='add the tables to this file')
    args = parser.parse_args()
    if args.quick:
        args.sides, args.samples, args.repeats = (256, 384, 512), args.samples[:3], 3
    return args


def fit(sizes: np.ndarray, values: np.ndarray, power: bool) -> dict[str, float]:
    """How much of ``values`` over ``sizes`` a straight line explains, and the exponent of a power law."""
    slope, offset = np.polyfit(sizes, values, 1)
    residual = values - (slope * sizes + offset)
    r2 = 1 - residual @ residual / np.sum((values - values.mean())**2)
    exponent = {'exponent': float(np.polyfit(np.log(sizes), np.log(values), 1)[0])} if power else {}
    return {'a straight line explains (%)': float(100 * r2)} | exponent


def tell(title: str, rows: dict[int, dict[str, float]], args: argparse.Namespace, power: bool = False) -> None:
    """The series by size, and the fits of what grows."""
    sizes = np.array(list(rows), float)
    grows = [name for name in next(iter(rows.values())) if not name.startswith('read')]
    report(title, {f'{size:,}': row for size, row in rows.items()}, args.json, **vars(args))
    report(f'growth with the {title}', {
        name.rpartition('_')[0]: fit(sizes, np.array([row[name] for row in rows.values()], float), power)
        for name in grows}, args.json)


# ---------------------------------------------------------------- pixels
def measure(model: TinyViT, side: int, train: bool, repeats: int) -> dict[str, float]:
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
    return {'time_s': seconds, 'peak_bytes': peak_bytes(step)}


def of_pixels(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    train = args.mode == 'train'
    model = TinyViT(args.arch, out_indices=(0, 1, 2, 3), gap_before_output=False, norm_eval=True).train(train)
    model.to('cuda' if torch.cuda.is_available() else 'cpu')
    rows = {side**2: measure(model, side, train, args.repeats) for side in args.sides}
    tell(f'pixels of one image, TinyViT-{args.arch.upper()}, {args.mode}', rows, args, power=True)


# ---------------------------------------------------------------- samples and views
def write_and_read(folder: Path, samples: int, views: int) -> dict[str, float]:
    """A store of random records: seconds to write it, its bytes, and microseconds to read one record."""
    per_shard = 4096
    record = Record.concat([sparsify(synthetic_outputs(CLASSES, 3, 256), TOPK)] * (per_shard // 256))
    keys = [f'n{i // 1300:08d}/n{i // 1300:08d}_{i}.JPEG' for i in range(samples)]
    request = dict(topk=TOPK, num_classes=CLASSES, samples_per_shard=per_shard)
    make_codec('compact', TOPK, CLASSES).prepare()  # before the clock starts
    start = time.perf_counter()
    with LogitWriter(folder, request, keys) as writer:
        for unit in writer.missing(range(views)):
            writer.write_shard(unit, record.row(slice(unit.count)))
    written = time.perf_counter() - start
    store, dice = LogitStore(folder), np.random.default_rng(0)
    wanted = [keys[i] for i in dice.integers(0, samples, READS)]
    for key in wanted[:READS // 10]:
        store.read(0, [key])
    seconds = []
    for view, key in zip(dice.integers(0, views, READS).tolist(), wanted, strict=True):
        start = time.perf_counter()
        store.read(view, [key])
        seconds.append(time.perf_counter() - start)
    return {'write_s': written, 'size_bytes': store.num_bytes(), 'read one (us)': 1e6 * float(np.median(seconds))}


def of_samples(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = {samples: write_and_read(Path(folder, str(samples)), samples, 1) for samples in args.samples}
    tell(f'samples of a store, top {TOPK} of {CLASSES:,}, one view', rows, args)


def of_views(args: argparse.Namespace) -> None:
    samples = args.samples[2] if len(args.samples) > 2 else args.samples[-1]
    with tempfile.TemporaryDirectory() as folder:
        rows = {views: write_and_read(Path(folder, str(views)), samples, views) for views in VIEWS}
    tell(f'views of a store, top {TOPK} of {CLASSES:,}, {samples:,} samples', rows, args)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    for what in args.of:
        dict(pixels=of_pixels, samples=of_samples, views=of_views)[what](args)


if __name__ == '__main__':
    main()
