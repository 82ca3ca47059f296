"""Does DeiT's second head learn from a store? Labels alone, hard and soft distillation, on real photos.

    MMTINYVIT_DATA=... python benchmarks/deit.py [--epochs 12] [--views 4]

MobileNetV2 saves its top 10 of 1,000 classes for four views of the 7,500 training photos of Imagenette at 96 pixels.
One small DeiT with two heads is trained three times on the same views: with labels alone, with the teacher's first
class for the second head, and with its probabilities. Prints a table and writes work_dirs/imagenette/deit.json.
Interrupted, it goes on where it was.
"""
import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from harness import machine
from rich.console import Console
from rich.table import Table

from mmtinyvit.cli.command import run_command
from mmtinyvit.errors import UserError

OUT = Path('work_dirs/imagenette')
ROOT = Path(__file__).resolve().parents[1]
RUNS = dict(deit_none='labels alone', deit_hard="labels, and the teacher's first class",
            deit_soft="labels, and the teacher's probabilities")


def run(*command: str) -> float:
    """Run one tool; returns seconds."""
    start = time.perf_counter()
    result = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        raise UserError(f'{" ".join(command)} failed: {result.stderr.strip()[-2000:]}')
    return time.perf_counter() - start


def schedule(epochs: int, every: int) -> list[str]:
    """Options that shorten or lengthen a recipe."""
    return ['--cfg-options', f'train_cfg.max_epochs={epochs}', f'train_cfg.val_interval={every}',
            f'default_hooks.checkpoint.interval={every}', f'param_scheduler.1.end={epochs}']


def top1(name: str) -> float:
    """The last accuracy that the training logged."""
    lines = [json.loads(line) for path in sorted((OUT / name).glob('*/vis_data/scalars.json'))
             for line in path.read_text().splitlines()]
    return [line['accuracy/top1'] for line in lines if 'accuracy/top1' in line][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--epochs', type=int, default=12, help='epochs over all photos (default: 12)')
    parser.add_argument('--views', type=int, default=4, help='stored views (default: 4)')
    parser.add_argument('--photos', type=int, default=7500, help='photos, evenly spaced (default: all 7,500)')
    args = parser.parse_args()
    data = os.environ.get('MMTINYVIT_DATA')
    if not data:
        raise UserError('benchmarks/deit.py needs MMTINYVIT_DATA, the folder with imagenette96/ and '
                        'teacher_mobilenetv2/.')
    weights = next(Path(data, 'teacher_mobilenetv2').glob('*.pth'))
    console, results = Console(), {}
    part, saving, training = '', [], []
    if args.photos < 7500:  # a store of its own, for a quick look
        chosen = str([i * 7500 // args.photos for i in range(args.photos)]).replace(' ', '')
        part = f'_{args.photos}'
        saving = ['--out', str(OUT / f'store{part}'), '--cfg-options', f'test_dataloader.dataset.indices={chosen}']
        training = [f'train_dataloader.dataset.indices={chosen}']
    seconds = run('tools/save_logits.py', 'configs/imagenette/save_logits.py', str(weights), '--views',
                  f'0:{args.views}', *saving)
    console.print(f'saved {args.views} views in {seconds:.0f} s')
    for name in RUNS:
        options = schedule(args.epochs, args.epochs) + training
        if part and name != 'deit_none':
            options.append(f'store={OUT / f"store{part}"}')
        folder = f'{name}_{args.epochs}{part}'
        seconds = run('tools/train.py', f'configs/imagenette/{name}.py', '--work-dir', str(OUT / folder), '--resume',
                      *options)
        results[name] = top1(folder)
        console.print(f'{name}: {results[name]:.1f} % after {seconds:.0f} s')
    table = Table('student learns from', 'top-1 over ten classes (%)',
                  title=f'{args.epochs} epochs over {args.photos:,} photos, {args.views} views')
    for name, what in RUNS.items():
        table.add_row(what, f'{results[name]:.1f}')
    console.print(table)
    console.print(machine())
    summary = dict(epochs=args.epochs, num_views=args.views, photos=args.photos, machine=machine(),
                   **{f'{name}_top1': value for name, value in results.items()})
    (OUT / f'deit{part}.json').write_text(json.dumps(summary, indent=2) + '\n')


if __name__ == '__main__':
    run_command(main)
