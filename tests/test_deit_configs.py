"""DeiT's recipes have the numbers of the original; tests/test_configs.py reads, builds and runs them."""
import pytest
from test_configs import CONFIGS, DEIT, store_read_by


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
