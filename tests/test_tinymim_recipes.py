"""The recipes of TinyMIM: their numbers are the released ones, and each ablation takes a step of training."""
import copy
import functools
import math

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, TRANSFORMS, init_default_scope
from tiny_networks import shrink_tinymim

from mmtinyvit.paths import config_root

ROOT = config_root() / 'tinymim'
ABLATIONS = sorted(path.stem for path in ROOT.glob('ablations/*.py'))
CHAIN = ['mae_large_to_base', 'tinymim_base_to_small', 'tinymim_small_to_tiny']


@functools.cache
def parsed(name: str) -> dict:
    return Config.fromfile(ROOT / f'{name}.py').to_dict()


def load(name: str) -> Config:
    init_default_scope('mmpretrain')
    return Config(copy.deepcopy(parsed(name)), format_python_code=False)


def build(cfg: Config) -> torch.nn.Module:
    model = cfg.model.to_dict()
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    return MODELS.build(model)


def batch(cfg: Config, size: int = 32, images: int = 2) -> dict:
    """Noise through the training pipeline of a recipe, but for the loading, collated."""
    _, augment, pack = (TRANSFORMS.build(each) for each in cfg.train_dataloader.dataset.pipeline)
    augment.transforms[0].scale = (size, size)
    augment.clock.view = 0
    rng = np.random.default_rng(0)
    samples = [dict(img=rng.integers(0, 256, (48, 64, 3), np.uint8), sample_key=f'{i}.png') for i in range(images)]
    return default_collate([pack(augment(sample)) for sample in samples])


# ---------------------------------------------------------------- a step
TERMS = {
    'relations_qq_kk_vv': ['loss_qq', 'loss_kk', 'loss_vv'], 'class_token': ['loss_cls'],
    **{f'relations_{name}': [f'loss_{name}'] for name in ('qq', 'kk', 'vv', 'qk')},
    **{name: ['loss_feature'] for name in ABLATIONS if name.startswith('features_')},
}


@pytest.mark.parametrize('name', [name for name in ABLATIONS if 'block_' not in name or name == 'block_15'])
def test_ablation_takes_a_step(name, tmp_path):
    cfg = load(f'ablations/{name}')
    shrink_tinymim(cfg, tmp_path)
    model = build(cfg)
    data = batch(cfg)
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    assert list(losses) == TERMS.get(name, ['loss_qk', 'loss_vv'])
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    model.train_step(data, OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.)))
    changed = {key for key, p in model.named_parameters() if not torch.equal(p, before[key])}
    assert {key for key, p in model.named_parameters() if p.requires_grad} >= changed
    assert 'backbone.patch_embed.projection.weight' in changed and 'backbone.layers.11.attn.qkv.weight' in changed
    depth = len(model.teacher.load().layers)
    assert depth == (24 if 'final' in model.features and 'block' in name else cfg.model.teacher.block)


def test_ablations_cover_relations_tokens_features_blocks_and_masks():
    blocks = [load(f'ablations/{name}').model.teacher.block for name in ABLATIONS if name.startswith('block_')]
    assert blocks == [12, 15, 18, 21, 24]
    features = {load(f'ablations/{name}').model.losses[0].feature for name in ABLATIONS if 'features_' in name}
    assert features == {'qkv', 'attn', 'attn_residual', 'ffn', 'block', 'final'}
    assert load('ablations/masked').model.masked and len(TERMS) == 12


# ---------------------------------------------------------------- views
def test_teacher_and_student_share_crop_and_flip_and_nothing_else():
    cfg = load('mae_base_to_tiny')
    transforms = cfg.train_dataloader.dataset.pipeline[1].transforms
    teacher, student = (batch(cfg)['inputs'][i] for i in (0, 1))
    assert teacher.shape == student.shape == (2, 3, 32, 32) and not torch.equal(teacher, student)
    transforms[2].transforms[1] = []
    plain = batch(cfg)['inputs']
    assert torch.equal(plain[0], plain[1]) and torch.equal(plain[0], teacher)


def test_views_and_masks_are_replayed():
    cfg = load('ablations/masked')
    cfg.train_dataloader.dataset.pipeline[1].transforms[-1].update(input_size=64, mask_ratio=0.75)
    first = batch(cfg, 64)
    np.random.seed(2)
    again = batch(cfg, 64)
    for a, b in zip(first['inputs'], again['inputs'], strict=True):
        assert torch.equal(a, b)
    masks = [torch.stack([sample.mask for sample in each['data_samples']]) for each in (first, again)]
    assert torch.equal(*masks) and masks[0].sum((1, 2)).tolist() == [12, 12]  # of 4 x 4 patches
    assert not torch.equal(masks[0][0], masks[0][1])


# ---------------------------------------------------------------- numbers
def test_weight_decay_spares_what_the_original_spares():
    """Vectors and biases in pretraining; in finetuning the class token and the positions too."""
    cfg = load('mae_base_to_tiny')
    with torch.device('meta'):
        model, classifier = build(cfg), build(load('finetune_tiny_in1k'))
    for net, settings, tokens in ((model, cfg.optim_wrapper, False),
                                  (classifier, load('finetune_tiny_in1k').optim_wrapper, True)):
        optimizer = build_optim_wrapper(net, settings.copy()).optimizer
        decays = {id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']}
        for key, parameter in net.named_parameters():
            spared = parameter.ndim == 1 or tokens and key.endswith(('cls_token', 'pos_embed'))
            assert not parameter.requires_grad or decays[id(parameter)] == (0 if spared else 0.05), key


def test_rates_decay_from_layer_to_layer_in_finetuning():
    cfg = load('finetune_base_in1k')
    with torch.device('meta'):
        model = build(cfg)
    rates = {group['param_name']: group['lr'] / cfg.optim_wrapper.optimizer.lr
             for group in build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups}
    for key, depth in (('backbone.pos_embed', 0), ('backbone.layers.0.ln1.weight', 1), ('head.fc.weight', 13),
                       ('backbone.layers.11.attn.qkv.weight', 12)):
        assert math.isclose(rates[key], 0.65**(13 - depth)), key


def heads(backbone: dict, default: int) -> list[int]:
    return [each['num_heads'] for each in backbone.get('layer_cfgs', [])] or [default]


@pytest.mark.parametrize('name', CHAIN)
def test_each_step_of_the_chain_is_taught_by_the_student_before(name):
    cfg = load(name)
    student, teacher = cfg.model.backbone, cfg.model.teacher
    assert heads(student, 0)[-1] == heads(teacher.backbone, 16)[-1] == 16 and len(heads(student, 0)) == 12
    assert [each['drop_path_rate'] for each in student.layer_cfgs] == [0.1] * 11 + [0.]
    if name != CHAIN[0]:
        before = CHAIN[CHAIN.index(name) - 1]
        assert heads(teacher.backbone, 0) == heads(load(before).model.backbone, 0)
        assert teacher.backbone.arch == load(before).model.backbone.arch and teacher.block == 12
        assert teacher.checkpoint == f'work_dirs/{before}/epoch_300.pth'


@pytest.mark.parametrize(('name', 'inner', 'last'), [('mae_base_to_tiny', 6, 12), ('mae_base_to_small', 6, 12),
                                                     ('mae_large_to_base', 12, 16)])
def test_heads_of_the_release(name, inner, last):
    assert heads(load(name).model.backbone, 0) == [inner] * 11 + [last]


@pytest.mark.parametrize(('name', 'parameters'), [('tiny', 5_524_416), ('small', 21_665_664), ('base', 85_798_656)])
def test_sizes_of_the_students(name, parameters):
    with torch.device('meta'):
        model = build(load({'base': 'mae_large_to_base'}.get(name, f'mae_base_to_{name}')))
    assert sum(p.numel() for p in model.backbone.parameters()) == parameters
