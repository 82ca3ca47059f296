"""Of gpu.py: how fast, against others in the same run."""
from collections.abc import Callable, Iterator
from itertools import product
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from backbone import WINDOW_SIZES, build, step
from gpu_settings import Settings
from harness import compare, peak_bytes, report
from loss import measure, random_record
from torch import Tensor, nn

__all__ = ['attention', 'inference', 'loss', 'training']

HEAD = 32  # channels of a head in every TinyViT


# ---------------------------------------------------------------- TinyViT against timm's and mmpretrain's
def training(settings: Settings) -> bool:
    """A training step, forward and backward."""
    return time_models(settings, 'train')


def inference(settings: Settings) -> bool:
    """Inference, ours after ``fuse()``."""
    return time_models(settings, 'eval')


def time_models(settings: Settings, mode: str) -> bool:
    """A table for each size of image and batch: images per second in bfloat16, and peak memory."""
    for compiled, side, arch in product((False, True), settings.batches, settings.archs):
        if compiled and not settings.compiled:
            continue
        for batch in settings.batches[side]:
            names = ['timm', 'ours', *['mmpretrain'] * (side % 32 == 0)]
            models = {name: model_of(name, arch, side, mode, compiled).to(settings.device) for name in names}
            images = torch.randn(batch, 3, side, side, device=settings.device)
            rows = {}
            for name, row in compare_where_it_fits(models, images, mode, settings.repeats).items():
                rows[name] = {'images/s': batch / row['median_s'], "times timm's speed": 1 / row['ratio'],
                              'peak_bytes': row['peak_bytes']}
            title = f'{mode}, TinyViT-{arch}, {side} pixels, batch {batch}, bfloat16'
            report(title + ', compiled' * compiled + f', {settings.device}', rows or {'out of memory': {}},
                   settings.out)
            torch.compiler.reset()
    return True


def model_of(name: str, arch: str, side: int, mode: str, compiled: bool) -> nn.Module:
    """One of the three."""
    windows = side if side in WINDOW_SIZES else 224
    torch.manual_seed(0)
    model = build(name, SimpleNamespace(arch=arch, windows=windows, mode=mode, size=(side, side)))
    model.train(mode == 'train')  # mmpretrain's gives nothing back
    return torch.compile(model) if compiled else model


def compare_where_it_fits(models: dict[str, nn.Module], images: Tensor, mode: str, repeats: int) -> dict[str, dict]:
    """Time and memory; none where a batch is too large for the device."""
    steps = {name: runner(model, images, mode) for name, model in models.items()}
    try:
        results = compare(steps, repeats)
        return {name: row | {'peak_bytes': peak_bytes(steps[name])} for name, row in results.items()}
    except torch.OutOfMemoryError:
        return {}


def runner(model: nn.Module, images: Tensor, mode: str) -> Callable[[], None]:
    return lambda: step(model, images, mode, torch.bfloat16)


# ---------------------------------------------------------------- the loss
def loss(settings: Settings) -> bool:
    """The sparse loss against the dense one, forward and backward."""
    batch, num_classes, topk = settings.loss
    torch.manual_seed(0)
    record = random_record(batch, num_classes, topk, settings.device)
    logits = torch.randn(batch, num_classes, device=settings.device, requires_grad=True)
    report(f'loss, B={batch}, C={num_classes:,}, K={topk}, {settings.device}',
           measure(record, logits, 1., 0., settings.repeats), settings.out)
    return True


# ---------------------------------------------------------------- attention in windows, with a bias that learns
def attention(settings: Settings) -> bool:
    """Forward and backward of what could stand in ``WindowAttention``; the outputs are compared first."""
    right = True
    for side in (7, 14):
        windows, heads, tokens = (4096 if settings.device == 'cuda' else 16) * 49 // side**2, 4, side**2
        torch.manual_seed(0)
        q, k, v = (torch.randn(windows, heads, tokens, HEAD, device=settings.device, dtype=torch.bfloat16,
                               requires_grad=True) for _ in range(3))
        bias = torch.randn(heads, tokens, tokens, device=settings.device, dtype=torch.bfloat16, requires_grad=True)
        ways = dict(candidates(settings.compiled))
        wanted = plain(*(each.float() for each in (q, k, v, bias)))
        steps = {}
        for name, way in ways.items():
            error = (way(q, k, v, bias).float() - wanted).abs().max().item()
            right &= error < .05
            steps[name] = backward_of(way, q, k, v, bias)
        results = compare(steps, settings.repeats)
        for name, run in steps.items():
            results[name]['peak_bytes'] = peak_bytes(run)
        report(f'attention, {windows} windows of {side} x {side}, {heads} heads, bfloat16, {settings.device}', results,
               settings.out)
    return right


def candidates(compiled: bool) -> Iterator[tuple[str, Callable[..., Tensor]]]:
    yield 'scaled_dot_product_attention (ours)', fused
    yield 'plain products', plain
    if compiled:
        yield 'plain products, compiled', torch.compile(plain)
        yield 'flex_attention, compiled', torch.compile(flex)


def fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return (q * q.shape[-1]**-.5 @ k.transpose(-2, -1) + bias).softmax(-1) @ v


def flex(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention(q, k, v, score_mod=lambda score, _, head, i, j: score + bias[head, i, j])


def backward_of(way: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], None]:
    def run() -> None:
        for each in inputs:
            each.grad = None
        way(*inputs).square().mean().backward()

    return run
