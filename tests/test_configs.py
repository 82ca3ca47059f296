"""Every recipe: it reads, its model builds, it runs on a few images, and its numbers are the published ones."""
import ast
import functools
import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import MODELS
from mmengine.runner import Runner
from tiny_recipes import (
    caches,
    load_recipe,
    on_a_few_images,
    save_store,
    saves,
    store_read_by,
    write_world,
)

from mmtinyvit.engine.hooks.cache_logits import read_saving_config
from mmtinyvit.paths import config_root
from mmtinyvit.store import LogitStore

ROOT = config_root()
NAMES = sorted(str(path.relative_to(ROOT).with_suffix('')) for path in ROOT.glob('[!_]*/**/*.py'))
PROJECTS = sorted(f'../{path.relative_to(ROOT.parent).with_suffix("")}'
                  for path in ROOT.parent.glob('projects/*/configs/*.py'))


def load(name: str) -> Config:
    return load_recipe(ROOT / f'{name}.py')


CONFIGS = {name: load(name) for name in NAMES}
PROJECT_CONFIGS = {name: load(name) for name in PROJECTS}
TEACHERS = {cfg.store: name for name, cfg in CONFIGS.items() if saves(cfg)}
STUDENTS = [name for name, cfg in {**CONFIGS, **PROJECT_CONFIGS}.items() if store_read_by(cfg)]
DENSE = [name for name, cfg in CONFIGS.items()  # tests/detection and tests/segmentation run them
         if cfg.get('default_scope') in ('mmdet', 'mmseg')]
RECIPES = [name for name in NAMES
           if name.startswith(('tinymim/', 'tinyvit/', 'deit/', 'teachers/', 'detection/', 'segmentation/'))]
TRAINED = [name for name in NAMES if name.startswith(('tinyvit/', 'deit/'))]
DEIT = [name for name in NAMES if name.startswith('deit/deit_')]
LEARNING = [name for name, cfg in {**CONFIGS, **PROJECT_CONFIGS}.items()  # everything that trains a classifier
            if cfg.get('train_cfg') and 'model' in cfg and cfg.get('default_scope') == 'mmpretrain' and not saves(cfg)]


# ---------------------------------------------------------------- what a reader sees first
@pytest.mark.parametrize('name', RECIPES)
def test_opens_with_command_cost_and_result(name):
    text = ast.get_docstring(ast.parse((ROOT / f'{name}.py').read_text()))
    assert f'configs/{name}.py' in text
    assert 'Cost' in text and 'esult' in text


def assignments(path: Path) -> dict[str, ast.expr]:
    """What a config itself sets, by name."""
    return {target.id: node.value for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)
            for target in node.targets if isinstance(target, ast.Name)}


def chain(path: Path) -> list[Path]:
    """A config and every file that it inherits from, near or far."""
    bases = ast.literal_eval(assignments(path).get('_base_', ast.Constant([])))
    bases = [bases] if isinstance(bases, str) else bases
    return [path, *(each for base in bases for each in chain((path.parent / base).resolve()))]


@pytest.mark.parametrize('name', LEARNING)
def test_a_recipe_is_understood_from_three_files(name):
    files = chain((ROOT / f'{name}.py').resolve())
    assert len(files) <= 3, files


def test_entry_shows_model_store_views_and_schedule_itself():
    cfg, base = CONFIGS['tinyvit/distill_in21k'], Config.fromfile(ROOT / '_base_/imagenet1k.py')
    assert assignments(ROOT / 'tinyvit/distill_in21k.py').keys() >= {
        'model', 'store', 'mode', 'num_views', 'topk', 'view_transforms', 'train_dataloader', 'optim_wrapper',
        'param_scheduler', 'train_cfg'}
    assert cfg.view_transforms == base.view_transforms and cfg.train_pipeline == base.train_pipeline


def test_stores_have_names_of_their_own():
    assert len(TEACHERS) == sum(map(saves, CONFIGS.values()))


# ---------------------------------------------------------------- models
def device_of(cfg: Config, name: str) -> str:
    """Where to build: on meta, unless the numbers matter, or the network is a RegNet, which computes its widths."""
    return 'cpu' if name.startswith('demo/') or 'regnet' in str(cfg.model.get('model_name')) else 'meta'


@functools.cache
def classes_of(teacher: str) -> int:
    cfg = load(teacher)
    device = device_of(cfg, teacher)
    side = 32 if device == 'cpu' else 224
    with torch.no_grad():
        return build(cfg, device).eval()(torch.zeros(1, 3, side, side, device=device)).shape[1]


def build(cfg: Config, device: str) -> torch.nn.Module:
    model = ConfigDict(cfg.model.to_dict())
    for each in [model, *model.get('teachers', [])]:
        each.update({'pretrained': False} if 'pretrained' in each else {})
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    with torch.device(device):
        return MODELS.build(model)


@pytest.mark.parametrize('name', [*(name for name, cfg in CONFIGS.items() if 'model' in cfg),
                                  *(name for name in STUDENTS if name in PROJECTS)])
def test_model_builds(name):
    cfg = load(name)
    parameters = list(build(cfg, device_of(cfg, name)).parameters())
    assert parameters and (saves(cfg) or any(p.requires_grad for p in parameters))  # an ensemble is frozen


# ---------------------------------------------------------------- teacher and student speak of the same views
@pytest.mark.parametrize('name', STUDENTS)
def test_student_makes_the_views_of_its_teacher(name):
    student = (CONFIGS | PROJECT_CONFIGS)[name]
    teacher = CONFIGS[TEACHERS[store_read_by(student)]]
    ours, theirs = student.train_dataloader.dataset.copy(), teacher.test_dataloader.dataset.copy()
    ours_pipeline, theirs_pipeline = ours.pop('pipeline'), theirs.pop('pipeline')
    added = ('mmtinyvit.LoadTeacherLogits', 'mmtinyvit.MapLabel')
    assert [t for t in ours_pipeline if t['type'] not in added] == theirs_pipeline
    assert ours == theirs
    preprocessor = student.model.get('data_preprocessor') or student.data_preprocessor
    mixing = preprocessor.get('mixing')
    assert mixing == teacher.test_cfg.get('mixing')
    assert (student.train_dataloader.sampler.type == 'mmtinyvit.PairedSampler') == bool(mixing)
    assert student.model.head.num_classes == classes_of(TEACHERS[store_read_by(student)])


@pytest.mark.parametrize('name', [name for name in STUDENTS if name in (*TRAINED, *PROJECTS)])
def test_there_is_a_view_for_every_epoch(name):
    student = (CONFIGS | PROJECT_CONFIGS)[name]
    teacher = CONFIGS[TEACHERS[store_read_by(student)]]
    assert teacher.test_cfg.views == (0, student.train_cfg.max_epochs)
    assert teacher.test_cfg.topk == (100 if 'in21k' in name else 10)


def test_entry_is_the_21m_recipe():
    assert CONFIGS['tinyvit/distill_in21k']._cfg_dict == CONFIGS['tinyvit/tiny_vit_21m_distill_in21k']._cfg_dict


# ---------------------------------------------------------------- published numbers, per 512 images
RATES = {'in21k': (90, 2.5e-4, 0.01), 'in1k': (300, 5e-4, 0.05)}  # epochs, rate, weight decay
DROP_PATH = {('5m', 'in21k'): 0, ('11m', 'in21k'): 0, ('21m', 'in21k'): .1,
             ('5m', 'in1k'): 0, ('11m', 'in1k'): .1, ('21m', 'in1k'): .2}
PUBLISHED = [name for name in TRAINED if '_distill_' in name and name not in DEIT]


@pytest.mark.parametrize('name', PUBLISHED)
def test_numbers_are_the_published_ones(name):
    cfg, (arch, data) = CONFIGS[name], Path(name).name.split('_')[2::2][:2]
    epochs, rate, decay = RATES[data]
    assert cfg.train_cfg.max_epochs == epochs and cfg.auto_scale_lr == dict(enable=True, base_batch_size=512)
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=rate, betas=(.9, .999), eps=1e-8, weight_decay=decay)
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=5.0)
    assert cfg.model.backbone.drop_path_rate == DROP_PATH[arch, data]


@pytest.mark.parametrize('name', ['tinyvit/distill_in21k', 'tinyvit/tiny_vit_5m_distill_in1k',
                                  'deit/deit_tiny_distilled_in1k'])
def test_weight_decay_spares_what_the_original_spares(name):
    cfg = load(name)
    model = build(cfg, 'meta')
    settings = cfg.optim_wrapper.copy()
    optimizer = DefaultOptimWrapperConstructor(settings, settings.pop('paramwise_cfg'))(model).optimizer
    decays = {id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']}
    for key, parameter in model.named_parameters():
        spared = parameter.ndim == 1 or key.endswith('.bias') or key.split('.')[-1] in (
            'attention_biases', 'cls_token', 'dist_token', 'pos_embed')
        assert decays[id(parameter)] == (0 if spared else cfg.optim_wrapper.optimizer.weight_decay), key


# ---------------------------------------------------------------- on a few images
@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """The folders that the configs name, with six noise images each."""
    return write_world(tmp_path_factory.mktemp('world'))


@pytest.mark.parametrize('name', TEACHERS.values())
def test_teacher_saves(name, world, tmp_path, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.setenv('MMTINYVIT_DATA', 'data')
    store = save_store(load(name), tmp_path)
    (present, expected), = ((there.present, there.expected) for there in store.coverage().values())
    assert present == expected and store.num_samples in (6, 10)
    assert store.topk == CONFIGS[name].test_cfg.topk
    assert store.mixing == bool(CONFIGS[name].test_cfg.get('mixing'))


@pytest.mark.parametrize('name', [name for name, cfg in CONFIGS.items() if cfg.get('test_cfg') == {} and not (
    cfg.get('train_cfg') or name in DENSE)])
def test_what_only_tests(name, world, tmp_path, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.setenv('MMTINYVIT_DATA', 'data')
    cfg = on_a_few_images(load(name), tmp_path)
    cfg.experiment_name = f'only_tests_{Path(name).name}'
    cfg.test_dataloader.dataset.pipeline.insert(-1, dict(type='Resize', scale=(32, 32)))
    metrics = Runner.from_cfg(cfg).test()
    assert metrics and all(0 <= value <= 100 for value in metrics.values())


SIBLINGS = {  # of one training the recipes that differ from it in their network alone
    'tinyvit/tiny_vit_5m_distill_in21k': 'tinyvit/distill_in21k',
    'tinymim/finetune_small_in1k': 'tinymim/finetune_tiny_in1k',
    'tinymim/mae_base_to_small': 'tinymim/mae_base_to_tiny',
    'tinymim/mae_large_to_base': 'tinymim/mae_base_to_tiny',
    'tinymim/tinymim_base_to_small': 'tinymim/tinymim_small_to_tiny',
    'tinymim/tiny_vit_21m_from_mae_base': 'tinymim/tiny_vit_5m_from_mae_large',
}


def trained_for(name: str) -> str:
    """The recipe whose training stands for that of another one: its smallest sibling."""
    small = re.sub('deit_(small|base)_', 'deit_tiny_', re.sub('_(11m|21m)_', '_5m_', name))
    small = SIBLINGS.get(name, SIBLINGS.get(small, small))
    return small if small in CONFIGS else name


def without_network(name: str) -> dict:
    """A recipe but for its model, and for variables that only its own file uses."""
    return {key: value for key, value in CONFIGS[name].to_dict().items() if key not in ('model', 'last_heads')}


@pytest.mark.parametrize('name', [name for name in LEARNING if name in CONFIGS and trained_for(name) != name])
def test_sizes_differ_in_their_network_alone(name):
    assert without_network(name) == without_network(trained_for(name))
    assert CONFIGS[name].model.type == CONFIGS[trained_for(name)].model.type


@pytest.mark.parametrize('name', [name for name in LEARNING if name in CONFIGS and trained_for(name) == name
                                  and 'ablations/' not in name])  # test_tinymim_recipes.py takes a step with each
def test_one_epoch_of_training(name, world, tmp_path, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.setenv('MMTINYVIT_DATA', 'data')
    store = store_read_by(CONFIGS[name])
    if store and not caches(CONFIGS[name]):
        save_store(load(TEACHERS[store]), tmp_path)
    cfg = on_a_few_images(load(name), tmp_path)
    if any(hook['type'] == 'mmtinyvit.RequireWeightsHook' for hook in cfg.get('custom_hooks') or ()):
        cfg.load_from = str(tmp_path / 'start.pth')
        torch.save(build(cfg, 'cpu').state_dict(), cfg.load_from)
    runner = Runner.from_cfg(cfg)
    before = [p.detach().clone() for p in runner.model.parameters()]
    runner.train()
    assert runner.iter >= 2 and math.isfinite(runner.message_hub.get_scalar('train/loss').current())
    assert any(not torch.equal(p, q) for p, q in zip(before, runner.model.parameters(), strict=True))
    scaling = CONFIGS[name].get('auto_scale_lr', {})
    factor = 4 / scaling.base_batch_size if scaling.get('enable') else 1
    assert max(group['initial_lr'] for group in runner.optim_wrapper.optimizer.param_groups) == pytest.approx(
        CONFIGS[name].optim_wrapper.optimizer.lr * factor)
    if store:
        assert 0 <= runner.message_hub.get_scalar('train/teacher_agreement').current() <= 100
    if caches(CONFIGS[name]):
        assert LogitStore(tmp_path / 'store').views == [0]


@pytest.mark.parametrize('name', [name for name, cfg in CONFIGS.items() if caches(cfg)])
def test_a_training_with_a_teacher_fills_the_store_of_that_teacher(name):
    hook = CONFIGS[name].custom_hooks[0]
    teacher = CONFIGS[hook.teacher_model.removeprefix('configs/').removesuffix('.py')]
    assert teacher.store == store_read_by(CONFIGS[name])
    settings = read_saving_config(hook.teacher_model)
    assert settings['topk'] == teacher.test_cfg.topk and settings['teacher_model']['type'] == teacher.model.type
