"""Does distilling from a store, without labels, beat training on few labels? On real photos, with a real teacher.

    MMTINYVIT_DATA=... python benchmarks/imagenette.py [--epochs 20] [--views 4]

MobileNetV2 saves its top 10 of 1,000 classes for four views of the 7,500 training photos of Imagenette at 96 pixels.
One small TinyViT is trained from the store without labels, with 10 % of the labels for as many epochs, with 10 % of
the labels for as many images (ten times the epochs, new views in each), and with all labels. Prints a table and writes
work_dirs/imagenette/summary.json. Interrupted, it goes on where it was.
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
from mmtinyvit.store import LogitStore

OUT = Path('work_dirs/imagenette')
ROOT = Path(__file__).resolve().parents[1]
RUNS = dict(distill='from the store, no labels', labels_tenth='10 % of the labels, as many epochs',
            labels_all='all labels', labels_tenth_long='10 % of the labels, as many images')


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
    parser.add_argument('--epochs', type=int, default=20, help='epochs over all photos (default: 20)')
    parser.add_argument('--views', type=int, default=4, help='stored views (default: 4)')
    args = parser.parse_args()
    data = os.environ.get('MMTINYVIT_DATA')
    if not data:
        raise UserError('benchmarks/imagenette.py needs MMTINYVIT_DATA, the folder with imagenette96/ and '
                        'teacher_mobilenetv2/.')
    weights = next(Path(data, 'teacher_mobilenetv2').glob('*.pth'))
    config = 'configs/imagenette/save_logits.py'
    console = Console()
    seconds = run('tools/save_logits.py', config, str(weights), '--views', f'0:{args.views}')
    console.print(f'saved {args.views} views in {seconds:.0f} s')
    run('tools/logit_store.py', 'verify', str(OUT / 'store'), '--teacher', config, '--checkpoint', str(weights))
    for name in RUNS:
        epochs = args.epochs * (10 if name == 'labels_tenth_long' else 1)
        seconds = run('tools/train.py', f'configs/imagenette/{name}.py', '--work-dir', str(OUT / name),
                      '--resume', *schedule(epochs, epochs))
        console.print(f'{name}: {top1(name):.1f} % after {seconds:.0f} s')
    store = LogitStore(OUT / 'store')
    table = Table('student learns', 'top-1 over ten classes (%)', title=f'{args.epochs} epochs over 7,500 photos')
    for name, what in RUNS.items():
        table.add_row(what, f'{top1(name):.1f}')
    console.print(table)
    console.print(f'{args.views} views, {store.record_bytes} bytes each')
    console.print(machine())
    summary = dict(epochs=args.epochs, num_views=args.views, bytes_per_view=store.record_bytes,
                   **{f'{name}_top1': top1(name) for name in RUNS}, machine=machine())
    (OUT / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')


if __name__ == '__main__':
    run_command(main)
