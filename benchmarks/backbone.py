"""TinyViT against timm's and mmpretrain's: time and, in training, peak memory.

    python benchmarks/backbone.py --quick
    python benchmarks/backbone.py --arch 21m --mode eval
    python benchmarks/backbone.py --arch 21m --mode features --size 800 1216 --batch-size 1
    python benchmarks/backbone.py --arch 21m --mode train --json backbone.json

All models hold the same random weights, and their outputs are compared before anything is timed. ``fused`` is ours
after ``fuse()``. mmpretrain's has no stride-4 map and needs sides that are multiples of 32: it is absent where it
cannot run.
"""
import argparse
from collections.abc import Callable
from itertools import product

import timm
import torch
from harness import compare, peak_bytes, report
from mmpretrain.models import TinyViT as MMPretrainTinyViT
from torch import Tensor, nn

from mmtinyvit.models.backbones import TinyViT
from mmtinyvit.models.backbones.tiny_vit_keys import convert_state_dict

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16)
WINDOW_SIZES = {224: (7, 7, 14, 7), 384: (12, 12, 24, 12), 512: (16, 16, 32, 16)}


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    if not args.quick:
        run(args)
        return
    args.arch, args.batch_size, args.repeats = '5m', 4, 3
    for args.mode, args.dtype in product(('eval', 'train'), DTYPES):
        run(args)


def run(args: argparse.Namespace) -> None:
    """One table."""
    torch.manual_seed(0)
    size = (args.size[0], args.size[-1])
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    images = torch.randn(args.batch_size, 3, *size, device=device)
    models = build(args.arch, args.mode, size, WINDOW_SIZES[args.windows])
    for model in models.values():
        model.to(device).train(args.mode == 'train')
    check_equal(models, images)
    if args.compile:
        models = {name: torch.compile(model) for name, model in models.items()}
        check_equal(models, images)
    calls = {name: call(model, images, args.mode, DTYPES[args.dtype]) for name, model in models.items()}
    results = compare(calls, repeats=args.repeats)
    if args.mode == 'train':
        for name in calls:
            results[name]['peak_bytes'] = peak_bytes(calls[name])
    title = f'{args.mode}, {args.arch}, {size[0]}x{size[1]}, batch {args.batch_size}, {args.dtype}'
    report(title + ', compiled' * args.compile, results, args.json, **vars(args))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--arch', choices=['5m', '11m', '21m'], default='21m')
    parser.add_argument('--mode', choices=['eval', 'train', 'features'], default='eval')
    parser.add_argument('--size', type=int, nargs='+', default=[224], help='side, or height and width, in pixels')
    parser.add_argument('--windows', type=int, choices=list(WINDOW_SIZES), default=224, help='windows made for this')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--dtype', choices=list(DTYPES), default='fp32', help='bf16 runs under autocast')
    parser.add_argument('--compile', action='store_true', help='torch.compile every model')
    parser.add_argument('--quick', action='store_true', help='5m at a small batch: eval and train in both dtypes')
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--json', metavar='FILE', help='add the table to this file')
    return parser.parse_args()


def build(arch: str, mode: str, size: tuple[int, int], window_sizes: tuple[int, ...]) -> dict[str, nn.Module]:
    """The models by name, with the same random weights."""
    maps = dict(out_indices=(0, 1, 2, 3), gap_before_output=False) if mode == 'features' else {}
    models = {'ours': TinyViT(arch, window_sizes, **maps)}
    state_dict = random_weights(models['ours'])
    models['ours'].load_state_dict(state_dict)
    if mode != 'train':
        models['fused'] = TinyViT(arch, window_sizes, **maps)
        models['fused'].load_state_dict(state_dict)
        models['fused'].eval().fuse()
    options = dict(window_sizes=window_sizes, drop_path_rate=0.)
    if mode == 'features':
        models['timm'] = timm.create_model(f'tiny_vit_{arch}_224', features_only=True, **options)
        models['timm'].load_state_dict(convert_state_dict(state_dict, 'timm features'))
        return models
    models['timm'] = timm.create_model(f'tiny_vit_{arch}_224', num_classes=0, **options)
    models['timm'].load_state_dict(convert_state_dict(state_dict, 'timm'))
    if size[0] % 32 == size[1] % 32 == 0:
        models['mmpretrain'] = MMPretrainTinyViT(
            arch, size, list(window_sizes), drop_path_rate=0., out_indices=(3, ))
        models['mmpretrain'].load_state_dict(convert_state_dict(state_dict, 'mmpretrain'))
    return models


def random_weights(model: nn.Module) -> dict[str, Tensor]:
    """Weights of which every one matters: norms and attention biases too."""
    return {
        key: torch.rand_like(value) + .5 if key.endswith('running_var') else
        value + .1 * torch.randn_like(value) if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }


@torch.no_grad()
def check_equal(models: dict[str, nn.Module], images: Tensor) -> None:
    """Refuse to time models that disagree."""
    training = {name: model.training for name, model in models.items()}
    for model in models.values():
        model.train(False)
    outputs = {name: last(model, images[:1]) for name, model in models.items()}
    for name, model in models.items():
        model.train(training[name])
        error = (outputs[name] - outputs['ours']).abs().max() / outputs['ours'].abs().max()
        if error > 1e-4:
            raise SystemExit(f'{name} differs from ours by {error:.1e} of the largest output.')


def last(model: nn.Module, images: Tensor) -> Tensor:
    outputs = model(images)
    return outputs[-1] if isinstance(outputs, (tuple, list)) else outputs


def call(model: nn.Module, images: Tensor, mode: str, dtype: torch.dtype) -> Callable[[], None]:
    """One forward pass, or one forward and backward pass in training."""

    def run() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            if mode == 'train':
                model.zero_grad()
                last(model, images).float().square().mean().backward()
            else:
                with torch.inference_mode():
                    model(images)

    return run


if __name__ == '__main__':
    main()
