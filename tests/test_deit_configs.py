"""DeiT's recipes have the numbers of the original; tests/test_configs.py reads, builds and runs them."""
import math

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS
from test_configs import CONFIGS, DEIT, store_read_by
from timm.scheduler import CosineLRScheduler


@pytest.mark.parametrize('name', DEIT)
def test_deits_numbers_are_the_published_ones(name):
    cfg, large = CONFIGS[name], '_384' in name
    assert cfg.train_cfg.max_epochs == (30 if large else 300)
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=512)
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=5e-6 if large else 5e-4, betas=(.9, .999), eps=1e-8,
                                               weight_decay=1e-8 if large else 0.05)
    assert 'clip_grad' not in cfg.optim_wrapper and cfg.model.backbone.drop_path_rate == 0.1
    assert cfg.default_hooks.ema.momentum == pytest.approx(4e-5)
    assert cfg.model.head['loss'].label_smooth_val == 0.1
    assert cfg.model.backbone.img_size == cfg.view_transforms[0].scale == (384 if large else 224)
    distilled = '_distilled' in name
    assert cfg.model.type == ('mmtinyvit.DeiTDistillClassifier' if distilled else 'mmpretrain.ImageClassifier')
    assert (cfg.model.get('alpha'), 'teacher' in cfg.model) == (0.5 if distilled else None, distilled and
                                                                not name.endswith('_store'))
    sampler = cfg.train_dataloader.sampler
    if store_read_by(cfg):
        assert sampler.type == 'mmtinyvit.PairedSampler'
    else:
        assert sampler.type == 'mmtinyvit.RepeatAugSampler'
        assert sampler.num_repeats == cfg.train_dataloader.dataset.num_repeats == 3
        assert [(a.type, a.alpha) for a in cfg.data_preprocessor.batch_augments.augments] == [
            ('Mixup', 0.8), ('CutMix', 1.0)]


@pytest.mark.parametrize(('name', 'warmup', 'rate', 'first', 'last'), [
    ('deit/deit_tiny_in1k', 5, 1e-3, 1e-6, 1e-5), ('deit/deit_base_distilled_in1k_384', 5, 5e-6, 1e-6, 5e-6)])
def test_deits_rates_follow_the_original_schedule(name, warmup, rate, first, last):
    """Against timm's scheduler, a step per epoch, at the original's batch: 1024, and 512 at 384 pixels."""
    epochs = CONFIGS[name].train_cfg.max_epochs
    ours, theirs = (torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate) for _ in range(2))
    schedulers = [PARAM_SCHEDULERS.build(settings.to_dict() | dict(optimizer=ours))
                  for settings in CONFIGS[name].param_scheduler]
    reference = CosineLRScheduler(theirs, t_initial=epochs, lr_min=last, cycle_limit=1, warmup_lr_init=first,
                                  warmup_t=warmup)
    for epoch in range(epochs):
        reference.step(epoch)
        got, want = ours.param_groups[0]['lr'], theirs.param_groups[0]['lr']
        assert math.isclose(got, want, rel_tol=0, abs_tol=1e-3 * (rate if epoch < warmup else want)), (epoch, got, want)
        ours.step()
        for scheduler in schedulers:
            scheduler.step()
