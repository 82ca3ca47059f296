"""The main job in minutes: teacher, store, a student distilled without labels, and the same student with labels.

    mmtinyvit demo

Real handwriting (scikit-learn's digits) goes through the same commands as ImageNet-21K, with configs/demo/. Finished
steps are kept: interrupt it and start it again; --fresh begins anew. --detect goes on to find the digits on larger
images, with the distilled backbone and with a random one, which needs mmdet and mmcv's compiled operators.
"""
import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from rich.console import Console

from mmtinyvit.compat import require_library
from mmtinyvit.paths import mim_root
from mmtinyvit.store import LogitStore

from .steps import run_step
from .tables import print_tables, row_table

__all__ = ['ON_INTERRUPT', 'build_parser', 'main']

ON_INTERRUPT = 'Interrupted: run it again to go on with the unfinished step.'

OUT = Path('work_dirs/demo')
MODELS = dict(teacher='teacher', distilled='distill', label_only='label_only')
DETECTORS = dict(distilled='detect', random='detect_scratch')


def steps(detect: bool) -> list[tuple[str, str, list[str]]]:
    """Name, what it does, and the command, in order."""
    def train(name: str) -> list[str]:
        return ['train', f'configs/demo/{name}.py', '--work-dir', f'{OUT}/{name}', '--resume']

    def test(name: str) -> list[str]:
        return ['test', f'configs/demo/{name}.py', str(OUT / name / 'last.pth'), '--work-dir',
                f'{OUT}/{name}/test', '--out', f'{OUT}/{name}.json']

    config, weights = 'configs/demo/save_logits.py', str(OUT / 'teacher/last.pth')
    detection = [
        ('canvases', 'scatter the digits over larger images',
         ['tools/dataset_converters/digit_canvases.py', f'{OUT}/digits', f'{OUT}/canvases']),
        ('detect', 'train a detector on the distilled backbone', train('detect')),
        ('detect_scratch', 'train the same detector from random weights', train('detect_scratch')),
        *((f'test_{name}', f'test {name}', test(name)) for name in DETECTORS.values()),
    ]
    return [
        ('data', 'write the digits as images', ['tools/dataset_converters/digits.py', f'{OUT}/digits']),
        ('teacher', 'train the teacher with labels', train('teacher')),
        ('save', "save the teacher's logits for every view",
         ['save', config, weights, '--work-dir', f'{OUT}/saving']),
        ('check', 'check the store, and ask the teacher again',
         ['store', 'verify', f'{OUT}/store', '--teacher', config, '--checkpoint', weights]),
        ('distill', 'distil the student from the store, without labels', train('distill')),
        ('label_only', 'train the same student with labels', train('label_only')),
        *((f'test_{name}', f'test {name}', test(name)) for name in MODELS.values()),
        ('views', 'draw replayed views', ['store', 'gallery', '--config', 'configs/demo/distill.py', '--out',
                                          f'{OUT}/views.png']),
        *(detection if detect else ()),
    ]


def run(console: Console, what: str, command: list[str], log: Path) -> float:
    """Run one command, its output into ``log``; returns seconds."""
    root, is_script = mim_root(), command[0].startswith('tools/')
    parts = [str(root / word) if word.startswith(('tools/', 'configs/')) else word for word in command]
    # one thread: on networks this small, several mostly wait for each other and for the loader's worker
    return run_step(console, what, f'{"python" if is_script else "mmtinyvit"} {" ".join(command)}',
                    [sys.executable, '-u', *([] if is_script else ['-m', 'mmtinyvit']), *parts], log,
                    {'OMP_NUM_THREADS': '1', **os.environ})


def keep_weights(name: str) -> None:
    """Give the last checkpoint of a training a fixed name."""
    folder = OUT / name
    pointer = folder / 'last_checkpoint'
    if pointer.is_file():
        shutil.copyfile(pointer.read_text().strip(), folder / 'last.pth')


def summarise(seconds: dict[str, float], detect: bool) -> None:
    """The tables, and ``summary.json``."""
    store = LogitStore(OUT / 'store')
    top1 = {name: json.loads((OUT / f'{folder}.json').read_text())['accuracy/top1'] for name, folder in MODELS.items()}
    summary = {
        **{f'{name}_top1': round(value, 2) for name, value in top1.items()}, 'bytes_per_view': store.record_bytes,
        'num_views': len(store.views), 'seconds_saving': round(seconds['save'], 1),
        'seconds_distilling': round(seconds['distill'], 1)
    }
    table = row_table('model', 'learns from', 'top-1 (%)', words=('model', 'learns from'),
                      title='digits, 500 test images')
    stored = f'the store: {len(store.views)} views of {store.record_bytes} bytes, no labels'
    sources = dict(teacher='labels', distilled=stored, label_only='labels')
    for name, value in top1.items():
        table.add_row(name.replace('_', ' '), sources[name], f'{value:.1f}')
    print_tables(table)
    if detect:
        scores = {name: json.loads((OUT / f'{folder}.json').read_text()) for name, folder in DETECTORS.items()}
        table = row_table('backbone', 'AP', 'AP at IoU 0.5', words=('backbone', ),
                          title='digits on 100 larger images, 300 iterations')
        for name, score in scores.items():
            summary[f'detect_{name}_ap'] = round(100 * score['coco/bbox_mAP'], 1)
            table.add_row(name, *(f'{100 * score[f"coco/{key}"]:.1f}' for key in ('bbox_mAP', 'bbox_mAP_50')))
        print_tables(table)
    (OUT / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')


def read_scalars(work_dir: str | Path) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """What MMEngine's local visualiser wrote of the newest runs in a work folder, resumed ones joined.

    Returns:
        tuple: Training loss by iteration and top-1 accuracy by epoch, as pairs in order.
    """
    losses: dict[int, float] = {}
    accuracies: dict[int, float] = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            scalars = json.loads(line)
            if 'loss' in scalars:
                losses[scalars['step']] = scalars['loss']
            elif 'accuracy/top1' in scalars:
                accuracies[scalars['step']] = scalars['accuracy/top1']
    return sorted(losses.items()), sorted(accuracies.items())


def draw_curves(runs: dict[str, str | Path], out: str | Path) -> None:
    """Draw the loss and the accuracy of ``runs``, given as work folders by name, into the file ``out``."""
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout='constrained')
    for name, folder in runs.items():
        losses, accuracies = read_scalars(folder)
        left.plot([step for step, _ in losses], [loss for _, loss in losses], label=name)
        right.plot([epoch for epoch, _ in accuracies], [top1 for _, top1 in accuracies], 'o-', label=name)
    left.set(xlabel='iteration', ylabel='training loss', yscale='log')
    right.set(xlabel='epoch', ylabel='test top-1 (%)')
    right.legend()
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.savefig(out, dpi=110)
    plt.close(figure)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='The main job in minutes, on real handwriting.')
    parser.add_argument('--fresh', action='store_true', help='begin anew')
    parser.add_argument('--detect', action='store_true', help='also train two detectors (needs mmdet)')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    if args.detect:
        require_library('mmdet', '--detect')
    if args.fresh:
        shutil.rmtree(OUT, ignore_errors=True)
    (OUT / 'logs').mkdir(parents=True, exist_ok=True)
    console = Console()
    noted = OUT / 'steps.json'
    seconds: dict[str, float] = json.loads(noted.read_text()) if noted.is_file() else {}
    for name, what, command in steps(args.detect):
        if name in seconds:
            console.print(f'[bold]{what}[/bold]: done before, {seconds[name]:.0f} s', highlight=False)
            continue
        seconds[name] = run(console, what, command, OUT / 'logs' / f'{name}.log')
        keep_weights(name)
        noted.write_text(json.dumps(seconds, indent=2))
    summarise(seconds, args.detect)
    draw_curves({'distilled, no labels': OUT / 'distill', 'labels only': OUT / 'label_only'}, OUT / 'curves.png')
    console.print(f'Written: {OUT}/summary.json, {OUT}/views.png, {OUT}/curves.png', highlight=False, soft_wrap=True)
