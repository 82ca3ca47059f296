"""The recipes after distillation and from scratch: their numbers are the original's, and each starts where it must."""
import copy
import functools
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

from mmtinyvit.paths import config_root

ROOT = config_root() / 'tinyvit'
ARCHS = ('5m', '11m', '21m')
FINETUNE = [f'tiny_vit_{arch}_finetune_in1k' for arch in ARCHS]
SHARPER = [f'tiny_vit_21m_finetune_in1k_{side}' for side in (384, 512)]
SCRATCH = [f'tiny_vit_{arch}_in1k' for arch in ARCHS]
PROBES = [f'tiny_vit_{arch}_linear_in1k' for arch in ARCHS]
# epochs, rate per 512 images, weight decay, decay by layer, BatchNorm in eval mode
NUMBERS = {name: (30, 2.5e-4, 1e-8, .8, True) for name in FINETUNE} | {
    name: (30, 2e-5, 1e-8, None, True) for name in SHARPER} | {
    name: (300, 5e-4, .05, None, False) for name in SCRATCH}
DROP_PATH = dict(zip(FINETUNE, (0, 0, .1), strict=True)) | dict.fromkeys(SHARPER, .1) | dict(
    zip(SCRATCH, (0, .1, .2), strict=True))


@functools.cache
def parsed(name: str) -> dict:
    return Config.fromfile(ROOT / f'{name}.py').to_dict()


def load(name: str) -> Config:
    init_default_scope('mmpretrain')
    return Config(copy.deepcopy(parsed(name)), format_python_code=False)


def test_every_recipe_is_here():
    known = {*NUMBERS, *PROBES}
    assert {path.stem for path in ROOT.glob('*.py') if 'distill' not in path.stem} == known


@pytest.mark.parametrize('name', NUMBERS)
def test_numbers_are_the_originals(name):
    cfg = load(name)
    epochs, rate, decay, by_layer, norm_eval = NUMBERS[name]
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=rate, betas=(.9, .999), eps=1e-8, weight_decay=decay)
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=5.0)
    assert cfg.model.backbone.drop_path_rate == DROP_PATH[name]
    assert cfg.model.backbone.get('norm_eval', False) == norm_eval
    assert cfg.optim_wrapper.paramwise_cfg.get('layer_decay_rate') == by_layer
    assert (cfg.optim_wrapper.get('constructor') == 'mmtinyvit.LayerDecayOptimWrapperConstructor') == bool(by_layer)
    assert ('mixing' in cfg.data_preprocessor) == (name in SCRATCH)
    batch = cfg.train_dataloader.batch_size * 8 * cfg.optim_wrapper.get('accumulative_counts', 1)
    assert batch == 1024  # on the original's 8 GPUs
    step = cfg.auto_scale_lr.base_batch_size * cfg.optim_wrapper.get('accumulative_counts', 1)
    assert cfg.auto_scale_lr.enable and step == 512


@pytest.mark.parametrize('name', [FINETUNE[0], SHARPER[0], SCRATCH[0]])
def test_labels_are_smoothed_as_in_the_original(name):
    """With Mixup the original smooths the mixed target, without it the label: timm's losses say the same."""
    cfg = load(name)
    torch.manual_seed(0)
    loss = MODELS.build(cfg.model.head.loss)
    logits, labels = torch.randn(6, 1000), torch.randint(0, 1000, (6, ))
    if name in SCRATCH:
        mixed = .3 * torch.eye(1000)[labels] + .7 * torch.eye(1000)[labels.flip(0)]
        smoothed = mixed * .9 + .1 / 1000
        torch.testing.assert_close(loss(logits, mixed, avg_factor=6), SoftTargetCrossEntropy()(logits, smoothed))
    else:
        torch.testing.assert_close(loss(logits, labels, avg_factor=6), LabelSmoothingCrossEntropy(.1)(logits, labels))


@pytest.mark.parametrize('name', SHARPER)
def test_a_higher_resolution(name):
    """Windows that grow with the image, no crop in the test, and the checkpoint of the step before."""
    cfg = load(name)
    side = int(name.rsplit('_', 1)[1])
    assert tuple(cfg.model.backbone.window_sizes) == {384: (12, 12, 24, 12), 512: (16, 16, 32, 16)}[side]
    assert [t['type'] for t in cfg.test_dataloader.dataset.pipeline] == ['mmtinyvit.LoadImage', 'Resize', 'PackInputs']
    assert cfg.test_dataloader.dataset.pipeline[1]['scale'] == (side, side)
    views = cfg.train_dataloader.dataset.pipeline[1]['transforms']
    assert views[0]['scale'] == side and len(views) == 4
    text = (ROOT / f'{name}.py').read_text()
    assert f"load_from=work_dirs/{'tiny_vit_21m_finetune_in1k' + ('_384' if side == 512 else '')}/epoch_30.pth" in text


def test_biases_grow_with_the_window(tmp_path):
    """What load_from does between two recipes, in small."""
    cfg = load(SHARPER[0])
    small = dict(embed_dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
    models = []
    for windows in ((7, 7, 14, 7), cfg.model.backbone.window_sizes):
        cfg.model.backbone.update(arch=small, window_sizes=windows)
        cfg.model.head.update(in_channels=8)
        models.append(MODELS.build(cfg.model.to_dict() | dict(data_preprocessor=cfg.data_preprocessor)))
    for block in (models[0].backbone.stages[i].blocks[0] for i in (1, 2, 3)):
        torch.nn.init.normal_(block.attn.attention_biases)
    models[1].load_state_dict(models[0].state_dict())
    old, new = (model.backbone.stages[2].blocks[0].attn.attention_biases for model in models)
    expected = torch.nn.functional.interpolate(old.view(1, 1, 14, 14), (24, 24), mode='bicubic')
    torch.testing.assert_close(new.view(1, 1, 24, 24), expected)
    assert torch.equal(models[0].head.fc.weight, models[1].head.fc.weight)


@pytest.mark.parametrize('name', [*FINETUNE, *SHARPER, *PROBES])
def test_starts_from_weights(name):
    hooks = [hook['type'] for hook in load(name).custom_hooks]
    assert 'mmtinyvit.RequireWeightsHook' in hooks
    assert ('mmtinyvit.MapHeadHook' in hooks) == (name in FINETUNE)
    assert ('mmtinyvit.NewHeadHook' in hooks) == (name in PROBES)


@pytest.mark.parametrize('name', PROBES[:1])
def test_a_probe_trains_its_head_alone(name):
    cfg = load(name)
    with torch.device('meta'):
        model = MODELS.build(cfg.model.to_dict() | dict(data_preprocessor=cfg.data_preprocessor)).train()
    assert [key for key, p in model.named_parameters() if p.requires_grad] == ['head.fc.weight', 'head.fc.bias']
    assert not any(module.training for module in model.backbone.modules() if not list(module.children()))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper.copy())
    assert sum(p.requires_grad for group in wrapper.optimizer.param_groups for p in group['params']) == 2
    kinds = [t['type'] for t in cfg.train_dataloader.dataset.pipeline[1]['transforms']]
    assert kinds == ['mmtinyvit.RandomResizedCrop', 'RandomFlip']


def test_commands_name_checkpoints_that_recipes_write():
    """epoch_N.pth of a recipe that has N epochs."""
    for path in ROOT.glob('*.py'):
        for word in path.read_text().split():
            if word.startswith('load_from=work_dirs/'):
                folder, file = Path(word.removeprefix('load_from=work_dirs/')).parts
                source = ROOT / f'{folder}.py'
                assert source.is_file(), word
                assert file == f'epoch_{load(folder).train_cfg.max_epochs}.pth', word
