"""The learning rates of the recipes, step by step, against the schedules of the originals."""
import math
from collections.abc import Iterator

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from timm.scheduler import CosineLRScheduler

from mmtinyvit.paths import config_root

LENGTH = 20  # steps of an epoch
# recipe: epochs, warm-up, total batch, and at that batch the rate, the first rate and the last one
TIMMS = {
    'tinyvit/distill_in21k': (90, 5, 4096, 2e-3, 4e-6, 4e-5),
    'tinyvit/tiny_vit_5m_distill_in1k': (300, 20, 1024, 1e-3, 1e-6, 1e-5),
    'tinyvit/tiny_vit_5m_in1k': (300, 20, 1024, 1e-3, 1e-6, 1e-5),
    'tinyvit/tiny_vit_5m_finetune_in1k': (30, 5, 1024, 5e-4, 1e-6, 2e-5),
    'tinyvit/tiny_vit_21m_finetune_in1k_384': (30, 5, 1024, 4e-5, 4e-8, 4e-7),
    'deit/deit_tiny_in1k': (300, 5, 1024, 1e-3, 1e-6, 1e-5),
    'deit/deit_tiny_distilled_in1k_store': (300, 5, 1024, 1e-3, 1e-6, 1e-5),
    'deit/deit_base_distilled_in1k_384': (30, 5, 512, 5e-6, 1e-6, 5e-6),
}
MAES = {
    'tinymim/mae_large_to_base': (300, 15, 4096, 2.4e-3, 0., 0.),
    'tinymim/ablations/baseline': (100, 5, 4096, 2.4e-3, 0., 0.),
    'tinymim/ablations/block_24': (100, 5, 4096, 2.4e-3, 0., 0.),
    'tinymim/finetune_base_in1k': (100, 5, 1024, 2e-3, 0., 1e-6),
    'tinymim/finetune_tiny_in1k': (200, 5, 2048, 5e-3, 0., 1e-6),
    'tinymim/finetune_tiny_vit_5m_in1k': (100, 5, 1024, 2e-3, 0., 1e-6),
}


def timms_rates(epochs: int, warmup: int, rate: float, first: float, last: float, length: int) -> list[float]:
    """timm's scheduler as the originals of TinyViT and DeiT set it up."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    scheduler = CosineLRScheduler(optimizer, t_initial=epochs * length, lr_min=last, cycle_limit=1,
                                  warmup_lr_init=first, warmup_t=warmup * length, t_in_epochs=False)
    rates = []
    for step in range(epochs * length):
        scheduler.step_update(step)
        rates.append(optimizer.param_groups[0]['lr'])
    return rates


def maes_rates(epochs: int, warmup: int, rate: float, first: float, last: float, length: int) -> list[float]:
    """MAE's schedule: a linear rise, then half a cosine from there."""
    progress = [step / length for step in range(epochs * length)]
    return [first + (rate - first) * epoch / warmup if epoch < warmup else
            last + (rate - last) * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup))) / 2
            for epoch in progress]


def rates_of(cfg: Config, rate: float) -> Iterator[float]:
    """The rate of each step, or of each epoch if it changes by epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    schedulers = []
    for settings in cfg.param_scheduler:
        settings = settings.to_dict()
        by_step = settings.pop('convert_to_iter_based', False)
        scheduler = PARAM_SCHEDULERS.get(settings.pop('type'))
        schedulers.append(scheduler.build_iter_from_epoch(optimizer, epoch_length=LENGTH, **settings) if by_step
                          else scheduler(optimizer, **settings))
    for _ in range(cfg.train_cfg.max_epochs * (LENGTH if by_step else 1)):
        yield optimizer.param_groups[0]['lr']
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


@pytest.mark.parametrize('recipe', [*TIMMS, *MAES])
def test_rates_are_those_of_the_original_schedule(recipe):
    cfg = Config.fromfile(config_root() / f'{recipe}.py')
    epochs, warmup, batch, rate, first, last = (TIMMS | MAES)[recipe]
    scaling, accumulation = cfg.auto_scale_lr, cfg.optim_wrapper.get('accumulative_counts', 1)
    assert cfg.train_cfg.max_epochs == epochs and scaling.enable
    assert cfg.optim_wrapper.optimizer.lr * batch / (scaling.base_batch_size * accumulation) == pytest.approx(rate)
    length = LENGTH if cfg.param_scheduler[0].get('convert_to_iter_based') else 1  # DeiT's changes once in an epoch
    reference = (timms_rates if recipe in TIMMS else maes_rates)(epochs, warmup, rate, first, last, length)
    if recipe in MAES:  # MMEngine's rise ends one step earlier
        rising, falling = 1.001 / (warmup * length), 1e-5
    elif length == 1:
        rising, falling = 1e-3, 1e-3
    else:  # MMEngine's cosine has fallen already when the rise ends, the more the longer that takes
        rising, falling = (0.07, 3e-3) if warmup / epochs > 0.1 else (0.02, 1e-3)
    for step, (ours, theirs) in enumerate(zip(rates_of(cfg, rate), reference, strict=True)):
        slack = rising * rate if step <= warmup * length else falling * theirs
        assert math.isclose(ours, theirs, rel_tol=0, abs_tol=slack), (step, ours, theirs)
