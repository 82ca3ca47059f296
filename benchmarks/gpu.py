"""Is the library right, fast and whole on a GPU? Everything that ten minutes on one can answer, in order of worth.

    python benchmarks/gpu.py --minutes 8 --out gpu.json
    python benchmarks/gpu.py --device cpu --out cpu.json     # the same parts in small, to see that they run
    python benchmarks/gpu.py --list

Each part is a process of its own with a share of the time. Its tables are written as they come, so a part that fails
or runs out of time costs nobody else's. What a machine without a GPU cannot answer is left out there and said.
Images are made up, unless MMTINYVIT_DATA names the real ones, and weights are random: no download.
"""
import argparse
import os
import subprocess
import sys
import time
from importlib import import_module
from typing import NamedTuple

import torch
from gpu_settings import SETTINGS
from harness import report

NOT_RIGHT = 3  # the exit status of a part


class Part(NamedTuple):
    """One question.

    Attributes:
        module: Has a function of the part's name, which writes its tables and gives back whether all is as it must be.
        share: Of the minutes.
        question: For ``--list``.
    """
    module: str
    share: float
    question: str


PARTS = {
    'networks': Part('gpu_networks', .2, 'outputs and gradients of every backbone, in each precision'),
    'losses': Part('gpu_losses', .05, 'losses, records and mixing as on the CPU'),
    'step': Part('gpu_step', .15, 'a distillation by the real Runner, with --amp; what waits for the GPU in it'),
    'training': Part('gpu_speed', .15, 'a training step of TinyViT against timm and mmpretrain'),
    'inference': Part('gpu_speed', .1, 'inference, likewise'),
    'loss': Part('gpu_speed', .05, 'the sparse loss against the dense one'),
    'attention': Part('gpu_speed', .05, 'three ways to compute window attention with a bias that learns'),
    'saving': Part('gpu_flow', .1, 'saving with a ViT-L/14 teacher: share of the time outside the teacher'),
    'store': Part('gpu_flow', .15, 'training from a store against labels; how busy the GPU is'),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=8, help='in all (default: 8)')
    parser.add_argument('--device', choices=list(SETTINGS), default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--out', metavar='FILE', default='gpu.json', help='the tables (default: gpu.json)')
    parser.add_argument('--only', nargs='+', choices=list(PARTS), default=list(PARTS), metavar='PART')
    parser.add_argument('--list', action='store_true', help='say what the parts ask')
    parser.add_argument('--part', choices=list(PARTS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda needs a GPU, and torch finds none.')
    return args


def main() -> int:
    args = parse_args()
    if args.part:
        torch.set_num_threads(min(torch.get_num_threads(), 8))
        answer = getattr(import_module(PARTS[args.part].module), args.part)
        return 0 if answer(SETTINGS[args.device]._replace(out=args.out)) else NOT_RIGHT
    if args.list:
        for name, part in PARTS.items():
            print(f'{name:10} {part.share:4.0%}  {part.question}')
        return 0
    return run_parts(args)


def run_parts(args: argparse.Namespace) -> int:
    """Each part in turn, and a table of what became of them. Gives back 1 if one is not as it must be."""
    deadline = time.monotonic() + 60 * args.minutes
    left = sum(PARTS[name].share for name in args.only)
    ends = {}
    for name in args.only:
        seconds = max(deadline - time.monotonic(), 0) * PARTS[name].share / left
        left -= PARTS[name].share
        start = time.monotonic()
        try:
            status = subprocess.run([sys.executable, __file__, '--part', name, '--device', args.device, '--out',
                                     args.out], timeout=seconds, env=environment(args.device)).returncode
            end = {0: 'right', NOT_RIGHT: 'NOT RIGHT'}.get(status, f'failed with status {status}')
        except subprocess.TimeoutExpired:
            end = f'stopped after its {seconds:.0f} s'
        ends[name] = {'end': end, 'seconds': round(time.monotonic() - start)}
    report('parts', ends, args.out)
    if args.device == 'cpu':
        print('\nOn a GPU the same parts ask about every backbone, batches of 64 to 1,024 at 224 and 512 pixels,\n'
              'a ViT-L/14 teacher, torch.compile, --amp, and what waits for the GPU in a step.')
    return int(any(row['end'].startswith(('NOT', 'failed')) for row in ends.values()))


def environment(device: str) -> dict[str, str]:
    """That of a part: one for the CPU sees no GPU."""
    hidden = dict(CUDA_VISIBLE_DEVICES='') if device == 'cpu' else {}
    return os.environ | hidden


if __name__ == '__main__':
    sys.exit(main())
