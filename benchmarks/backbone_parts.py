"""What the parts of TinyViT that are made for a CPU gain, each against the plain form of the same thing.

    python benchmarks/backbone_parts.py
    python benchmarks/backbone_parts.py --only bottleneck

``memory``: writing a map into fresh memory and into memory that is there. ``bottleneck``: the widest block image by
image and as a whole. ``attention``: with a learnt bias, ours and PyTorch's operators one by one. ``linear``: tokens
through 1 x 1 convolutions and through matrices. In inference, ``packed``: tokens through weights in oneDNN's order, and
``fused``: attention by products and by PyTorch's fused kernel.
"""
import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from harness import compare, peak_bytes, report
from torch import Tensor, nn

from mmtinyvit.models.backbones import bottleneck
from mmtinyvit.models.backbones.biased_attention import biased_attention
from mmtinyvit.models.backbones.tiny_vit_layers import MBConv
from mmtinyvit.models.backbones.token_linear import TokenLinear

DTYPES = dict(float32=torch.float32, bfloat16=torch.bfloat16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', choices=list(PARTS), nargs='+', default=list(PARTS))
    parser.add_argument('--repeats', type=int, default=15)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--json', metavar='FILE', help='add the tables to this file')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for part in args.only:
        for dtype in DTYPES:
            torch.manual_seed(0)
            for title, calls, has_peak in PARTS[part](DTYPES[dtype]):
                results = compare(calls, repeats=args.repeats)
                for name in calls if has_peak else ():
                    results[name]['peak_bytes'] = peak_bytes(calls[name])
                report(f'{part}, {title}, {dtype}', results, args.json, **vars(args))


def memory(dtype: torch.dtype):
    x = torch.randn(8, 56, 56, 384).to(dtype)
    there = torch.empty_like(x)
    yield f'{x.nbytes / 2**20:.0f} MiB', {'there': lambda: there.copy_(x), 'fresh': x.clone}, False


def wide_bottleneck(dtype: torch.dtype):
    for channels, batch in ((64, 16), (96, 16), (64, 64)):
        block = MBConv(channels, 4., 0.)
        x = torch.randn(batch, channels, 56, 56).contiguous(memory_format=torch.channels_last).requires_grad_()

        def run(wide: int, block: nn.Module = block, x: Tensor = x) -> None:
            before, bottleneck.WIDE = bottleneck.WIDE, wide
            _step(block, x, dtype)
            bottleneck.WIDE = before

        yield (f'{channels} channels, batch {batch}',
               {'image by image': lambda run=run: run(0), 'as a whole': lambda run=run: run(2**60)}, True)


def attention(dtype: torch.dtype):
    for windows, heads, num in ((8, 12, 196), (128, 6, 49), (2, 5, 1024)):
        qkv = torch.randn(windows, num, heads, 3, 32).to(dtype).permute(3, 0, 2, 1, 4).requires_grad_()
        bias = torch.randn(1, heads, num, num).to(dtype).requires_grad_()

        def run(function: Callable, qkv: Tensor = qkv, bias: Tensor = bias) -> None:
            torch.autograd.grad(function(qkv, bias).square().sum(), [qkv, bias])

        yield (f'{windows} windows of {num}, {heads} heads',
               {'ours': lambda run=run: run(biased_attention), 'operators': lambda run=run: run(_operators)}, True)


def linear(dtype: torch.dtype):
    for tokens, channels in ((392, 576), (1568, 384), (6272, 192)):
        layer = TokenLinear(channels, 4 * channels)
        x = torch.randn(tokens, channels, requires_grad=True)
        plain = nn.Linear(channels, 4 * channels)
        yield (f'{tokens} tokens, {channels} to {4 * channels} channels',
               {'ours': lambda layer=layer, x=x: _step(layer, x, dtype),
                'nn.Linear': lambda plain=plain, x=x: _step(plain, x, dtype)}, False)


def packed(dtype: torch.dtype):
    for tokens, channels in ((49, 576), (196, 384), (784, 192)):
        layer = TokenLinear(channels, 4 * channels)
        layer.fuse()
        plain, x = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU()), torch.randn(tokens, channels)

        def run(function: Callable, x: Tensor = x) -> None:
            with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
                function(x)

        yield (f'{tokens} tokens, {channels} to {4 * channels} channels, and a GELU',
               {'ours': lambda run=run, layer=layer: run(layer.gelu),
                'nn.Linear': lambda run=run, plain=plain: run(plain)}, False)


def fused(dtype: torch.dtype):
    for windows, heads, num in ((256, 6, 49), (256, 6, 144), (16, 12, 196), (2, 12, 1024)):
        qkv = torch.randn(windows, num, heads, 3, 32).to(dtype).permute(3, 0, 2, 1, 4)
        bias = torch.randn(1, heads, num, num).to(dtype)

        def tokens(function: Callable, qkv: Tensor = qkv, bias: Tensor = bias) -> None:
            function(qkv, bias).transpose(1, 2).flatten(2)

        yield (f'{windows} windows of {num}, {heads} heads',
               {'products': lambda tokens=tokens: tokens(biased_attention),
                'fused': lambda tokens=tokens: tokens(_fused)}, False)


def _fused(qkv: Tensor, bias: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(*qkv, attn_mask=bias)


def _operators(qkv: Tensor, bias: Tensor) -> Tensor:
    q, k, v = qkv.contiguous().unbind()
    return F.softmax((q * q.shape[-1]**-0.5) @ k.transpose(-2, -1) + bias, -1) @ v


def _step(module: nn.Module, x: Tensor, dtype: torch.dtype) -> None:
    module.zero_grad()
    with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = module(x)
    y.float().square().sum().backward()
    x.grad = None


PARTS = dict(memory=memory, bottleneck=wide_bottleneck, attention=attention, linear=linear, packed=packed,
             fused=fused)

if __name__ == '__main__':
    main()
