"""MobileViT's recipes: they build at full size, train small, and hold the published numbers."""
import ast
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner
from tiny_recipes import load_recipe, on_a_few_images, save_store, store_read_by, write_world

from mmtinyvit.apis.networks import count_parameters
from mmtinyvit.paths import config_root

FOLDER = Path(__file__).resolve().parents[1] / 'configs'
NAMES = sorted(path.stem for path in FOLDER.glob('*.py'))
PARAMETERS = {'s': 5_578_632, 'xs': 2_317_848, 'xxs': 1_272_024}


def test_every_recipe_is_there():
    assert NAMES == sorted([*(f'mobilevit_{size}_in1k' for size in PARAMETERS),
                            *(f'mobilevit_s_distill_{data}' for data in ('in1k', 'in21k'))])


@pytest.mark.parametrize('name', NAMES)
def test_opens_with_command_cost_and_result(name):
    text = ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text()))
    assert f'projects/mobilevit/configs/{name}.py' in text and 'Cost' in text and 'esult' in text


@pytest.mark.parametrize('size', PARAMETERS)
def test_numbers_are_the_published_ones(size):
    cfg = load_recipe(FOLDER / f'mobilevit_{size}_in1k.py')
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=2e-3, betas=(.9, .999), eps=1e-8, weight_decay=.01)
    assert cfg.train_cfg.max_epochs == 300 and cfg.auto_scale_lr == dict(enable=True, base_batch_size=1024)
    assert cfg.param_scheduler[0].end == 20_000 and cfg.param_scheduler[1].eta_min_ratio == .1
    assert cfg.train_dataloader.batch_sampler.sides == (160, 192, 256, 288, 320)
    kinds = [each['type'] for each in cfg.train_dataloader.dataset.dataset.pipeline[1]['transforms']]
    assert kinds == ['mmtinyvit.SizedRandomResizedCrop', 'RandomFlip']
    resize, crop = cfg.test_dataloader.dataset.pipeline[1:3]
    assert (resize.scale, crop.crop_size) == (288, 256)
    assert cfg.data_preprocessor == dict(num_classes=1000, mean=[0] * 3, std=[255] * 3, to_rgb=False)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert count_parameters(model) == PARAMETERS[size]
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {.1}


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp('world'))


@pytest.mark.parametrize('name', ['mobilevit_xxs_in1k', 'mobilevit_s_distill_in1k'])
def test_one_epoch_of_training(name, world, tmp_path, monkeypatch):
    monkeypatch.chdir(world)
    cfg = load_recipe(FOLDER / f'{name}.py')
    store = store_read_by(cfg)
    if store:
        saved = save_store(load_recipe(config_root() / 'teachers/timm_in1k.py'), tmp_path)
        assert saved.num_classes == cfg.model.head.num_classes and saved.topk == 10
        load_recipe(FOLDER / f'{name}.py')
        cfg.data_preprocessor.input_size = 64
    else:
        cfg.train_dataloader.batch_sampler.update(sides=(32, 64), base_side=32, multiple_of=2)
    cfg.model.backbone.arch = 'xx_small'
    cfg.model.head.in_channels = 320
    cfg.experiment_name = name
    runner = Runner.from_cfg(on_a_few_images(cfg, tmp_path / 'work'))
    sides = set()
    runner.model.backbone.register_forward_pre_hook(lambda _, inputs: sides.add(inputs[0].shape[2]))
    runner.train()
    assert runner.iter == 2 and runner.message_hub.get_scalar('train/loss').current() > 0
    assert {64} if store else {32, 64} <= sides
