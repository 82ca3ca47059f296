"""A distillation recipe small enough for a search in seconds: 48 photos of 32 pixels, and their store."""
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from tiny_flow import distilling, saving, teacher, write_photos

SEED = dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), num_heads=(1, 2, 3, 4), window_sizes=(7, 4, 2, 1))


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    """``photos`` and ``store``; not to be changed."""
    folder = tmp_path_factory.mktemp('contraction')
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(teacher())
    model.init_weights()
    model.head.fc.weight.data.mul_(300)
    torch.save(dict(state_dict=model.state_dict()), folder / 'teacher.pth')
    write_photos(folder / 'photos', 48)
    transforms = [dict(type='mmtinyvit.RandomResizedCrop', scale=32)]
    Runner.from_cfg(saving(folder / 'photos', folder / 'store', folder / 'work', folder / 'teacher.pth',
                           pipeline=dict(transforms=transforms))).test()
    return folder


@pytest.fixture
def write_recipe(data, tmp_path):
    """Writes the recipe, changed by a function of its config, and returns its path."""

    def write(change=lambda cfg: None):
        transforms = [dict(type='mmtinyvit.RandomResizedCrop', scale=32)]
        cfg = distilling(data / 'photos', data / 'store', tmp_path, epochs=20, batch_size=8, transforms=transforms)
        cfg.model.backbone.arch = SEED
        cfg.model.head.in_channels = 32
        cfg.custom_hooks = cfg.custom_hooks[:1]
        cfg.store = cfg.train_dataloader.dataset.pipeline[2].pop('store')
        cfg.param_scheduler = [dict(type='CosineAnnealingLR', T_max=20, by_epoch=True, convert_to_iter_based=True)]
        cfg.pop('work_dir')
        change(cfg)
        path = tmp_path / 'recipe.py'
        cfg.dump(path)
        return path

    return write
