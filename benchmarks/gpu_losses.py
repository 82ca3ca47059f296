"""Of gpu.py: losses, records and mixed images are the same on the device as on the CPU."""
import torch
from gpu_settings import Settings
from harness import report
from torch import Tensor, nn

from mmtinyvit.datasets import ViewName
from mmtinyvit.engine.record_rule import RecordRule
from mmtinyvit.models.data_preprocessors import SeededMixing
from mmtinyvit.models.losses import (
    HardDistillationLoss,
    RelationDistillationLoss,
    SoftDistillationLoss,
    SparseSoftTargetLoss,
)
from mmtinyvit.store import Record, make_codec

__all__ = ['losses']


def losses(settings: Settings) -> bool:
    """Losses and gradients against float64 on the CPU; records and mixed images against the CPU's."""
    rows = {}
    batch, num_classes, topk = settings.loss
    logits, teacher = torch.randn(2, batch, num_classes, generator=torch.Generator().manual_seed(0)) * 3
    record = RecordRule(topk)(teacher, 0, 0, list(map(str, range(batch)))).to('cpu')
    tokens = torch.randn(3, 8, 6, 197, 64, generator=torch.Generator().manual_seed(1))
    for loss, inputs, rest in [
            (SparseSoftTargetLoss(), logits, (record, )),
            (SparseSoftTargetLoss(4., label_smoothing=.1), logits, (record, )),
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
