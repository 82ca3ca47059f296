"""The first third of gpu.py: the same numbers on the device as on the CPU."""
import argparse
import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from comparison_networks import FAMILIES
from gpu_settings import Settings
from harness import report
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from training import arm, save_store, write_photos

from mmtinyvit.datasets import ViewName
from mmtinyvit.engine.hooks import HostMemoryHook
from mmtinyvit.engine.record_rule import RecordRule
from mmtinyvit.models.backbones import CLIPVisionTower, DenseViT, TinyViT
from mmtinyvit.models.data_preprocessors import SeededMixing
from mmtinyvit.models.losses import (
    HardDistillationLoss,
    RelationDistillationLoss,
    SoftDistillationLoss,
    SparseSoftTargetLoss,
)
from mmtinyvit.store import Record, make_codec

__all__ = ['losses', 'networks', 'step']

# By precision: the error of the outputs over the largest one, and the least cosine of all gradients.
LIMITS = {'float32': (1e-4, .9999), 'channels last': (1e-4, .9999), 'compiled': (1e-4, .9999), 'bfloat16': (.05, .8),
          'float16': (.03, .97)}


# ---------------------------------------------------------------- networks
def networks(settings: Settings) -> bool:
    """Outputs in eval, and gradients in training, of each network and in each precision."""
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
            rows[precision] = compare(wanted, results(model.to(settings.device), images.to(settings.device), precision),
                                      *LIMITS[precision])
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
    """The outputs in eval, and all gradients in training, on the CPU."""
    dtype = {'bfloat16': torch.bfloat16, 'float16': torch.float16}.get(precision)
    if precision == 'channels last':
        model, images = copy.deepcopy(model).to(memory_format=torch.channels_last), images.to(
            memory_format=torch.channels_last)
    before = copy.deepcopy(model.state_dict())  # training changes the statistics of norms
    run = torch.compile(model) if precision == 'compiled' else model

    def outputs() -> list[Tensor]:
        with torch.autocast(images.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            found = run(images)
        return [each.float() for each in (found if isinstance(found, tuple | list) else [found])]

    model.eval()
    with torch.no_grad():
        evaluated = [each.cpu() for each in outputs()]
    model.train()
    model.zero_grad()
    scaler = torch.amp.GradScaler(images.device.type, enabled=dtype is torch.float16)
    scaler.scale(sum(each.square().mean() for each in outputs())).backward()
    gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    model.load_state_dict(before)
    return evaluated, (torch.cat(gradients) / scaler.get_scale()).cpu()


def compare(wanted: tuple[list[Tensor], Tensor], found: tuple[list[Tensor], Tensor], error: float,
            cosine: float) -> dict:
    """A row: how far they are apart, and whether that is near enough."""
    apart = max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(wanted[0], found[0], strict=True))
    alike = torch.cosine_similarity(wanted[1].double(), found[1].double(), dim=0).item()
    return {'error of outputs': f'{apart:.1e}', 'cosine of gradients': f'{alike:.6f}',
            'right': apart <= error and alike >= cosine}


# ---------------------------------------------------------------- losses, records, mixing
def losses(settings: Settings) -> bool:
    """Losses and gradients against float64 on the CPU; records and mixed images against the CPU's."""
    rows = {}
    batch, num_classes, topk = settings.loss
    logits, teacher = torch.randn(2, batch, num_classes, generator=torch.Generator().manual_seed(0)) * 3
    record = RecordRule(topk)(teacher, 0, 0, list(map(str, range(batch)))).to('cpu')
    tokens = torch.randn(3, 8, 6, 197, 64, generator=torch.Generator().manual_seed(1))
    for loss, inputs, rest in [
            (SparseSoftTargetLoss(), logits, (record, )), (SparseSoftTargetLoss(4., label_smoothing=.1), logits, (record, )),
            (SoftDistillationLoss(), logits, (teacher, )), (HardDistillationLoss(), logits, (teacher, )),
            (RelationDistillationLoss(), tokens, (tokens.flip(1), ))]:
        name = f'{type(loss).__name__}{", smoothed" * (getattr(loss, "label_smoothing", 0) > 0)}'
        wanted = loss_and_gradient(loss, inputs.double(), *map(double, rest))
        found = loss_and_gradient(loss, inputs.to(settings.device), *(each.to(settings.device) for each in rest))
        error = max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(wanted, found, strict=True))
        rows[name] = {'relative error': f'{error:.1e}', 'right': error < 1e-4}
    rows |= records(settings, teacher, record) | mixing(settings)
    report(f'losses, records and mixing on {settings.device}, against the CPU', rows, settings.out)
    return all(row['right'] for row in rows.values())


def double(value: Tensor | Record) -> Tensor | Record:
    if isinstance(value, Tensor):
        return value.double()
    return value._replace(log_prob=value.log_prob.double(), tail_mass=value.tail_mass.double())


def loss_and_gradient(loss: nn.Module, inputs: Tensor, *rest: Tensor | Record) -> tuple[Tensor, Tensor]:
    inputs = inputs.detach().requires_grad_()
    value = loss(inputs, *rest)
    value = sum(value.values()) if isinstance(value, dict) else value
    value.backward()
    return value.detach().cpu().double(), inputs.grad.cpu().double()


def records(settings: Settings, logits: Tensor, wanted: Record) -> dict[str, dict]:
    """The teacher's top K as the device finds it, and the bytes that are made of it."""
    topk, num_classes = wanted.index.shape[1], logits.shape[1]
    found = RecordRule(topk)(logits.to(settings.device), 0, 0, list(map(str, range(len(logits))))).to('cpu')
    error = (found.log_prob - wanted.log_prob).abs().max().item()
    same = torch.equal(found.index, wanted.index)
    codec = make_codec('compact', topk, num_classes)
    packed = [codec.encode(Record(*(each.numpy() for each in record[:3]))) for record in (found, wanted)]
    alike = (packed[0] == packed[1]).mean().item()
    return {'top K': {'relative error': f'{error:.1e}', 'right': same and error < 1e-5},
            'its bytes, the share that is equal': {'relative error': f'{1 - alike:.1e}', 'right': alike > .99}}


def mixing(settings: Settings) -> dict[str, dict]:
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    names = [ViewName(0, 0, f'{i}.jpg') for i in range(len(images))]
    wanted, shares = SeededMixing()(images, names)
    found, same = SeededMixing()(images.to(settings.device), names)
    error = ((found.cpu() - wanted).abs().max() / 255).item()
    return {'mixing': {'relative error': f'{error:.1e}', 'right': error < 1e-6 and torch.allclose(shares, same.cpu())}}


# ---------------------------------------------------------------- a training step
def step(settings: Settings) -> bool:
    """Five steps of a distillation by the real Runner in each precision, against the CPU's; what waits in a step."""
    size = 224 if settings.device == 'cuda' else 64
    args = argparse.Namespace(images=16, batch_size=8, classes=1000, topk=10, size=size)
    with tempfile.TemporaryDirectory() as folder:
        root = write_photos(Path(folder, 'photos'), args.images)
        save_store(args, root, Path(folder))

        def start() -> Runner:
            torch.manual_seed(0)
            return arm('stored', args, root, Path(folder), 0)

        wanted = train(start(), 'cpu', None)
        rows = {}
        limits = {None: 1e-3, 'bfloat16': .05, 'float16': .05}
        for precision, limit in limits.items():
            if precision is not None and settings.device == 'cpu':
                continue  # --amp needs a GPU
            found = train(start(), settings.device, precision)
            error = max(abs(a - b) / a for a, b in zip(wanted, found, strict=True))
            rows[precision or 'float32'] = {'first loss': found[0], 'last loss': found[-1],
                                            'relative error': f'{error:.1e}', 'right': error <= limit}
        rows['HostMemoryHook is off'] = {'right': settings.device == 'cpu' or not host_memory_acts(start())}
        report(f'{len(wanted)} steps of a distillation on {settings.device}, against the CPU', rows, settings.out)
        if settings.device == 'cuda':
            waits(start(), settings)
        else:
            print('What waits for the GPU in a step is counted on a GPU.')
    return all(row['right'] for row in rows.values())


def batches(runner: Runner, number: int = 5) -> Iterator[dict]:
    runner.train_loop.run_epoch()  # sets the view; its rate is so small that nothing is learned
    first = next(iter(runner.train_dataloader))
    for _ in range(number):
        yield {name: list(value) for name, value in first.items()}


def train(runner: Runner, device: str, precision: str | None) -> list[float]:
    """The losses of a few steps on one batch, with a rate that is large enough to learn it."""
    torch.manual_seed(0)
    wrapper = runner.optim_wrapper
    every = batches(runner)
    first = next(every)
    runner.model.to(device)
    optimizer = torch.optim.AdamW(runner.model.parameters(), lr=1e-4)
    if precision is not None:
        wrapper = AmpOptimWrapper(optimizer=optimizer, dtype=precision,
                                  **(dict(loss_scale='dynamic') if precision == 'float16' else {}))
    else:
        wrapper.optimizer = optimizer
    runner.model.train()
    with deterministic():
        return [runner.model.train_step(data, wrapper)['loss'].item() for data in [first, *every]]


@contextmanager
def deterministic() -> Iterator[None]:
    """TF32 off, as on the CPU."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def host_memory_acts(runner: Runner) -> bool:
    """Whether HostMemoryHook changes anything for a model on the GPU."""
    hook = HostMemoryHook()
    hook.before_run(runner)
    acted = hook._before is not None
    hook.after_run(runner)
    return acted


def waits(runner: Runner, settings: Settings) -> None:
    """Where a step waits for the GPU: each such call is a line of some file."""
    first = next(batches(runner))
    runner.model.train()
    runner.model.train_step(first, runner.optim_wrapper)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('warn')
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        runner.model.train_step({name: list(value) for name, value in first.items()}, runner.optim_wrapper)
    torch.cuda.set_sync_debug_mode('default')
    places = [f'{Path(each.filename).name}:{each.lineno}' for each in found if 'synchroniz' in str(each.message)]
    report('what waits for the GPU in a step', {place: {'times': places.count(place)} for place in dict.fromkeys(places)}
           or {'nothing': {'times': 0}}, settings.out)
