"""Of gpu.py: networks give the same numbers on the device as on the CPU."""
import copy
from collections.abc import Callable, Iterator
from functools import partial

import torch
from comparison_networks import FAMILIES
from gpu_settings import Settings
from harness import report
from torch import Tensor, nn

from mmtinyvit.models.backbones import CLIPVisionTower, DenseViT, TinyViT

__all__ = ['networks']

# By precision: the error of the outputs over the largest one, and the least cosine of all gradients.
LIMITS = {'float32': (1e-4, .9999), 'channels last': (1e-4, .9999), 'compiled': (1e-4, .9999), 'bfloat16': (.05, .99),
          'float16': (.03, .999)}


# ---------------------------------------------------------------- networks
def networks(settings: Settings) -> bool:
    """Outputs and gradients of each network and in each precision, with the running statistics of its norms.

    With those of a batch of few images some networks amplify any rounding, on a CPU too.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    right = True
    for name, build, side, compiled in list(cases())[:settings.networks]:
        model, side = randomise(build()), min(side, settings.side)
        images = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(1))
        wanted = results(model, images)
        rows = {}
        for precision in LIMITS:
            if precision == 'compiled' and not (compiled and settings.compiled):
                continue
            error, cosine = LIMITS[precision]
            found = compare(wanted, results(model.to(settings.device), images.to(settings.device), precision))
            rows[precision] = {'error of outputs': f'{found[0]:.1e}', 'cosine of gradients': f'{found[1]:.6f}',
                               'right': found[0] <= error and found[1] >= cosine}
            right &= rows[precision]['right']
        report(f'{name} on {settings.device}, against float32 on the CPU', rows, settings.out)
    return right


def cases() -> Iterator[tuple[str, Callable[[], nn.Module], int, bool]]:
    """Name, how it is built, the side of its images, whether it is compiled too."""
    maps = dict(out_indices=(0, 1, 2, 3), gap_before_output=False)
    yield 'TinyViT-5M', partial(TinyViT, '5m'), 224, True
    yield 'TinyViT-5M, its maps at an odd size', partial(TinyViT, '5m', **maps), 250, False
    yield 'TinyViT-21M, windows for 512 pixels', partial(TinyViT, '21m', (16, 16, 32, 16)), 512, False
    yield 'DenseViT', partial(DenseViT, 'deit-tiny', 224), 224, False
    yield 'CLIPVisionTower', partial(CLIPVisionTower, width=128, depth=2, num_heads=2), 224, False
    for family in ('DeiT', 'TopFormer', 'Mobile-Former', 'MobileViT'):
        network = FAMILIES[family][0]
        yield network.name, network.build, network.side, False


def randomise(model: nn.Module) -> nn.Module:
    """Weights of which every one matters."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith('running_var'):
                tensor.uniform_(.5, 1.5, generator=generator)
            elif tensor.is_floating_point() and tensor.ndim < 2:
                tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=.1)
    for module in model.modules():
        if isinstance(module, nn.Dropout) or type(module).__name__ == 'DropPath':
            module.p = module.drop_prob = 0.
    return model


def results(model: nn.Module, images: Tensor, precision: str = 'float32') -> tuple[list[Tensor], Tensor]:
    """The outputs and all gradients, on the CPU."""
    dtype = {'bfloat16': torch.bfloat16, 'float16': torch.float16}.get(precision)
    if precision == 'channels last':
        model, images = copy.deepcopy(model).to(memory_format=torch.channels_last), images.to(
            memory_format=torch.channels_last)
    run = torch.compile(model) if precision == 'compiled' else model

    def outputs() -> list[Tensor]:
        with torch.autocast(images.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            found = run(images)
        return [each.float() for each in (found if isinstance(found, tuple | list) else [found])]

    model.eval()
    with torch.no_grad():
        evaluated = [each.cpu() for each in outputs()]
    scale = 2.**16 if dtype is torch.float16 else 1.  # where a GradScaler begins; it halves it until nothing overflows
    while True:
        model.zero_grad()
        (scale * sum(each.square().mean() for each in outputs())).backward()
        gradients = torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])
        if scale <= 1 or gradients.isfinite().all():
            return evaluated, (gradients / scale).cpu()
        scale /= 2


def compare(wanted: tuple[list[Tensor], Tensor], found: tuple[list[Tensor], Tensor]) -> tuple[float, float]:
    """The error of the outputs over the largest one, and the cosine of the gradients."""
    apart = max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(wanted[0], found[0], strict=True))
    return apart, torch.cosine_similarity(wanted[1].double(), found[1].double(), dim=0).item()
