"""TinyViT against timm's and mmpretrain's: time and, in training, peak memory.

    python benchmarks/backbone.py --quick
    python benchmarks/backbone.py --arch 21m --mode eval
    python benchmarks/backbone.py --arch 21m --mode features --size 800 1216 --batch-size 1
    python benchmarks/backbone.py --arch 21m --mode train --with-cp --json backbone.json

All models hold the same random weights, and their outputs are compared before anything is timed. Each lives in a
process of its own, as it does in a training, and these take turns. In eval ours runs after ``fuse()``. On a CPU it
runs as in our configs, with what HostMemoryHook switches on, and once more without that; with ``--keep-memory`` the
others keep their memory too, and what is left is arithmetic. On a machine that does other work,
``--processor-time`` with ``--threads 1`` counts seconds of the processor instead of the clock's. mmpretrain's has no
stride-4 map and needs sides that are multiples of 32: it is absent where it cannot run.
"""
import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from types import SimpleNamespace

import numpy as np
import timm
import torch
from apart import Apart, apart
from harness import compare, peak_bytes, report
from mmpretrain.models import TinyViT as MMPretrainTinyViT
from torch import Tensor, nn

from mmtinyvit.engine.hooks import HostMemoryHook
from mmtinyvit.host_memory import keep_host_memory
from mmtinyvit.models.backbones import TinyViT
from mmtinyvit.models.checkpoint_keys import convert_state_dict

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16)
EXACT = 1e-4  # of the largest output: in eval in float32, on one image
TIMED = dict(fp32=1e-4, bf16=.1)  # of what is timed
PAUSE = .02  # seconds in which the threads of the last step come to rest
WITHOUT, WITH_CP = ', without the hook', ', with_cp'
WINDOW_SIZES = {224: (7, 7, 14, 7), 384: (12, 12, 24, 12), 512: (16, 16, 32, 16)}


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    with apart(names(args)) as processes:
        if not args.quick:
            run(processes, args)
            return
        args.arch, args.batch_size, args.repeats = '5m', 4, 3
        for args.mode, args.dtype in product(('eval', 'train'), DTYPES):
            run(processes, args)


def run(processes: dict[str, Apart], args: argparse.Namespace) -> None:
    """One table."""
    for made in [process.make(make, name, args) for name, process in processes.items()]:
        made.result()
    check_equal({name: process.run('exact') for name, process in processes.items()}, EXACT)
    check_equal({name: process.run('timed') for name, process in processes.items()}, TIMED[args.dtype])
    steps = {name: partial(process.run, 'step') for name, process in processes.items()}
    results = compare(steps, repeats=args.repeats, pause=PAUSE)
    if args.mode == 'train':
        for name, process in processes.items():
            results[name]['peak_bytes'] = process.run('step', peak_bytes)
    title = f'{args.mode}, {args.arch}, {args.size[0]}x{args.size[-1]}, batch {args.batch_size}, {args.dtype}'
    title += ', compiled' * args.compile + ', memory kept by all' * args.keep_memory
    title += ', processor time' * args.processor_time
    report(title, results, args.json, **vars(args))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--arch', choices=['5m', '11m', '21m'], default='21m')
    parser.add_argument('--mode', choices=['eval', 'train', 'features'], default='eval')
    parser.add_argument('--size', type=int, nargs='+', default=[224], help='side, or height and width, in pixels')
    parser.add_argument('--windows', type=int, choices=list(WINDOW_SIZES), default=224, help='windows made for this')
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--dtype', choices=list(DTYPES), default='fp32', help='bf16 runs under autocast')
    parser.add_argument('--compile', action='store_true', help='torch.compile every model')
    parser.add_argument('--with-cp', action='store_true', help='ours once more, with activations computed again')
    parser.add_argument('--keep-memory', action='store_true', help='on a CPU, for the others too')
    parser.add_argument('--processor-time', action='store_true', help='instead of wall time; give it one thread')
    parser.add_argument('--quick', action='store_true', help='5m at a small batch: eval and train in both dtypes')
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--json', metavar='FILE', help='add the table to this file')
    args = parser.parse_args()
    if args.with_cp and (args.quick or args.mode != 'train'):
        parser.error('--with-cp needs --mode train, without --quick.')
    return args


def names(args: argparse.Namespace) -> list[str]:
    """What can run this."""
    square = args.mode != 'features' and args.size[0] % 32 == args.size[-1] % 32 == 0
    without = [f'ours{WITHOUT}'] * (not torch.cuda.is_available() and not args.keep_memory)
    return ['ours', *[f'ours{WITH_CP}'] * args.with_cp, *without, 'timm', *['mmpretrain'] * square]


def make(name: str, args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """One model: a ``step`` to time, the outputs of one in ``timed``, and ``exact`` ones of its first image."""
    if name in ('ours', f'ours{WITH_CP}'):
        HostMemoryHook().before_run(SimpleNamespace(model=nn.Identity()))
    elif args.keep_memory:
        keep_host_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    images = torch.randn(args.batch_size, 3, args.size[0], args.size[-1], device=device)
    model = build(name, args).to(device)
    model.eval()
    exact = outputs(model, images[:1], 'eval', torch.float32)
    model.train(args.mode == 'train')  # mmpretrain's gives nothing back
    settings = (torch.compile(model) if args.compile else model, images, args.mode, DTYPES[args.dtype])
    run_step = partial(step, *settings)
    if args.processor_time:
        run_step = partial(processor_seconds, run_step)
    return dict(step=run_step, timed=partial(outputs, *settings), exact=lambda: exact)


def build(name: str, args: argparse.Namespace) -> nn.Module:
    """A model by name; all have the same random weights."""
    window_sizes = WINDOW_SIZES[args.windows]
    maps = dict(out_indices=(0, 1, 2, 3), gap_before_output=False) if args.mode == 'features' else {}
    ours = TinyViT(args.arch, window_sizes, with_cp=name.endswith(WITH_CP), **maps)
    state_dict = random_weights(ours)
    options = dict(window_sizes=window_sizes, drop_path_rate=0.)
    if name == 'mmpretrain':
        size = (args.size[0], args.size[-1])
        model = MMPretrainTinyViT(args.arch, size, list(window_sizes), drop_path_rate=0., out_indices=(3, ))
        layout = 'mmpretrain'
    elif name == 'timm' and args.mode == 'features':
        model = timm.create_model(f'tiny_vit_{args.arch}_224', features_only=True, **options)
        layout = 'timm features'
    elif name == 'timm':
        model = timm.create_model(f'tiny_vit_{args.arch}_224', num_classes=0, **options)
        layout = 'timm'
    else:
        ours.load_state_dict(state_dict)
        return ours if args.mode == 'train' else ours.eval().fuse()
    model.load_state_dict(convert_state_dict(state_dict, layout))
    return model


def random_weights(model: nn.Module) -> dict[str, Tensor]:
    """Weights of which every one matters: norms and attention biases too.

    Matrices are random already. Larger ones would multiply what is rounded: in 21M by over a hundred.
    """
    weights = model.state_dict()
    for key, value in weights.items():
        if key.endswith('running_var'):
            weights[key] = torch.rand_like(value) + .5
        elif value.ndim == 1 or 'bias' in key:
            weights[key] = value + .1 * torch.randn_like(value)
    return weights


def check_equal(outputs: dict[str, np.ndarray], tolerance: float) -> None:
    """Refuse to time models that disagree with the first."""
    reference = next(iter(outputs.values()))
    for name, output in outputs.items():
        error = abs(output - reference).max() / abs(reference).max()
        if not error <= tolerance:
            raise SystemExit(f'{name} differs from ours by {error:.1e} of the largest output.')


def outputs(model: nn.Module, images: Tensor, mode: str, dtype: torch.dtype) -> np.ndarray:
    """The last output, as numbers."""
    return forward(model, images, mode, dtype).detach().float().cpu().numpy()


def step(model: nn.Module, images: Tensor, mode: str, dtype: torch.dtype) -> None:
    """One forward pass, and in training one backward pass."""
    if mode == 'train':
        model.zero_grad()
        forward(model, images, mode, dtype).float().square().mean().backward()
    else:
        forward(model, images, mode, dtype)
    if images.is_cuda:
        torch.cuda.synchronize()


def processor_seconds(function: Callable[[], object]) -> float:
    """What a call takes of the processor, page faults included."""
    start = time.process_time()
    function()
    return time.process_time() - start


def forward(model: nn.Module, images: Tensor, mode: str, dtype: torch.dtype) -> Tensor:
    """The last output, with gradients in training."""
    mixed = torch.autocast(images.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)
    with torch.inference_mode(mode != 'train'), mixed:
        outputs = model(images)
    return outputs[-1] if isinstance(outputs, (tuple, list)) else outputs


if __name__ == '__main__':
    main()
