"""Two processes: gradients are the mean, and DDP waits for no parameter."""
import os
import tempfile

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from processes import CLEAN
from tiny_networks import build, vit_config
from torch import distributed

from mmtinyvit.models.selfsup import TinyMIM


def algorithm(teacher: dict) -> TinyMIM:
    torch.manual_seed(1)
    return TinyMIM(build(vit_config(last_heads=4)), teacher)


def images(rank: int, step: int) -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(10 * step + rank))


def train(rank: int, folder: str, teacher: dict, frozen: bool) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', f'file://{folder}/rendezvous', rank=rank, world_size=2)
    model = algorithm(teacher)
    if not frozen:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_('pos_embed' not in name)
    model = MMDistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=False)
    outcome: object = None
    try:
        for step in range(2):
            model.zero_grad()
            sum(model(images(rank, step), [], mode='loss').values()).backward()
        outcome = {name: p.grad for name, p in model.module.named_parameters() if p.grad is not None}
    except RuntimeError as error:
        outcome = str(error)
    torch.save(outcome, f'{folder}/{rank}.pth')
    os._exit(0)  # not pytest's way out


def in_two_processes(folder: str, teacher: dict, frozen: bool) -> list:
    processes = [CLEAN.Process(target=train, args=(rank, folder, teacher, frozen), daemon=True) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        process.kill()
    return [torch.load(f'{folder}/{rank}.pth') for rank in (0, 1)]


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as path:
        yield path


def test_gradients_are_the_mean_of_both(teacher, folder):
    first, second = in_two_processes(folder, teacher, frozen=True)
    model, alone = algorithm(teacher), []
    for rank in (0, 1):
        model.zero_grad()
        sum(model.loss(images(rank, 1), []).values()).backward()
        alone.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert first.keys() == second.keys() == alone[0].keys() and len(first) > 20
    for name, grad in first.items():
        assert torch.equal(grad, second[name])
        assert torch.allclose(grad, (alone[0][name] + alone[1][name]) / 2, rtol=1e-4, atol=1e-7), name


def test_without_freezing_ddp_would_wait_for_ten_tensors(teacher, folder):
    """What the freezing is for."""
    for outcome in in_two_processes(folder, teacher, frozen=False):
        assert isinstance(outcome, str) and 'finished reduction in the prior iteration' in outcome
