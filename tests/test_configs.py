"""Every recipe: it reads, its model builds, it runs on a few images, and its numbers are the published ones."""
import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import MODELS, PARAM_SCHEDULERS, init_default_scope
from mmengine.runner import Runner
from PIL import Image
from timm.scheduler import CosineLRScheduler

from mmtinyvit.datasets.scan_images import index_images
from mmtinyvit.paths import config_root
from mmtinyvit.store import LogitStore

ROOT = config_root()
NAMES = sorted(str(path.relative_to(ROOT).with_suffix('')) for path in ROOT.glob('[!_]*/**/*.py'))
TINY = dict(embed_dims=(16, 16, 32, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_sizes=(7, 4, 4, 4))
SYNSETS = ('n01440764', 'n01443537')


def load(name: str) -> Config:
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(ROOT / f'{name}.py')
    return Config(cfg.to_dict(), filename=cfg.filename, format_python_code=False)  # formatting takes seconds a run


def saves(cfg: Config) -> bool:
    return cfg.get('test_cfg', {}).get('type') == 'mmtinyvit.SaveLogitsLoop'


def transform(pipeline: list[dict], name: str) -> dict | None:
    return next((each for each in pipeline if each['type'] == f'mmtinyvit.{name}'), None)


def store_read_by(cfg: Config) -> str | None:
    pipeline = (cfg.get('train_dataloader') or {}).get('dataset', {}).get('pipeline', [])
    return (transform(pipeline, 'LoadTeacherLogits') or {}).get('store')


CONFIGS = {name: load(name) for name in NAMES}
TEACHERS = {cfg.test_cfg.store: name for name, cfg in CONFIGS.items() if saves(cfg)}
STUDENTS = [name for name, cfg in CONFIGS.items() if store_read_by(cfg)]
RECIPES = [name for name in NAMES if name.startswith(('tinyvit/', 'teachers/'))]
TRAINED = [name for name in NAMES if name.startswith('tinyvit/')]


# ---------------------------------------------------------------- what a reader sees first
@pytest.mark.parametrize('name', RECIPES)
def test_opens_with_command_cost_and_result(name):
    text = ast.get_docstring(ast.parse((ROOT / f'{name}.py').read_text()))
    assert f'configs/{name}.py' in text
    assert 'Cost' in text and 'esult' in text


def test_stores_have_names_of_their_own():
    assert len(TEACHERS) == sum(map(saves, CONFIGS.values()))


# ---------------------------------------------------------------- models
def build(cfg: Config, device: str) -> torch.nn.Module:
    model = cfg.model.to_dict() | ({'pretrained': False} if 'pretrained' in cfg.model else {})
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    with torch.device(device):
        return MODELS.build(model)


@pytest.mark.parametrize('name', [name for name, cfg in CONFIGS.items() if 'model' in cfg])
def test_model_builds(name):
    load(name)
    device = 'cpu' if name.startswith('demo/') else 'meta'
    assert any(p.requires_grad for p in build(CONFIGS[name], device).parameters())


# ---------------------------------------------------------------- teacher and student speak of the same views
@pytest.mark.parametrize('name', STUDENTS)
def test_student_makes_the_views_of_its_teacher(name):
    student, teacher = CONFIGS[name], CONFIGS[TEACHERS[store_read_by(CONFIGS[name])]]
    ours, theirs = student.train_dataloader.dataset.copy(), teacher.test_dataloader.dataset.copy()
    ours_pipeline, theirs_pipeline = ours.pop('pipeline'), theirs.pop('pipeline')
    assert [t for t in ours_pipeline if t['type'] != 'mmtinyvit.LoadTeacherLogits'] == theirs_pipeline
    assert ours == theirs
    preprocessor = student.model.get('data_preprocessor') or student.data_preprocessor
    mixing = preprocessor.get('mixing')
    assert mixing == teacher.test_cfg.get('mixing')
    assert (student.train_dataloader.sampler.type == 'mmtinyvit.PairedSampler') == bool(mixing)
    assert student.model.head.num_classes == build(teacher, 'cpu' if 'demo' in name else 'meta')(
        torch.zeros(1, 3, 224, 224, device='cpu' if 'demo' in name else 'meta')).shape[1]


@pytest.mark.parametrize('name', [name for name in STUDENTS if name in TRAINED])
def test_there_is_a_view_for_every_epoch(name):
    student, teacher = CONFIGS[name], CONFIGS[TEACHERS[store_read_by(CONFIGS[name])]]
    assert teacher.test_cfg.views == (0, student.train_cfg.max_epochs)
    assert teacher.test_cfg.topk == (100 if 'in21k' in name else 10)


def test_entry_is_the_21m_recipe():
    assert CONFIGS['tinyvit/distill_in21k']._cfg_dict == CONFIGS['tinyvit/tiny_vit_21m_distill_in21k']._cfg_dict


# ---------------------------------------------------------------- published numbers, per 512 images
RATES = {  # epochs, warm-up, rate, warm-up rate, last rate, weight decay
    'in21k': (90, 5, 2.5e-4, 5e-7, 5e-6, 0.01),
    'in1k': (300, 20, 5e-4, 5e-7, 5e-6, 0.05),
}
DROP_PATH = {('5m', 'in21k'): 0, ('11m', 'in21k'): 0, ('21m', 'in21k'): .1,
             ('5m', 'in1k'): 0, ('11m', 'in1k'): .1, ('21m', 'in1k'): .2}
PUBLISHED = [name for name in TRAINED if '_distill_' in name]


@pytest.mark.parametrize('name', PUBLISHED)
def test_numbers_are_the_published_ones(name):
    cfg, (arch, data) = CONFIGS[name], Path(name).name.split('_')[2::2][:2]
    epochs, _, rate, _, _, decay = RATES[data]
    assert cfg.train_cfg.max_epochs == epochs and cfg.auto_scale_lr == dict(enable=True, base_batch_size=512)
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=rate, betas=(.9, .999), eps=1e-8, weight_decay=decay)
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=5.0)
    assert cfg.model.backbone.drop_path_rate == DROP_PATH[arch, data]


@pytest.mark.parametrize(('name', 'data'), [('tinyvit/distill_in21k', 'in21k'),
                                            ('tinyvit/tiny_vit_5m_distill_in1k', 'in1k')])
def test_rates_follow_the_original_schedule_at_any_batch(name, data):
    """Against timm's scheduler as the original sets it up, at batch 4096."""
    epochs, warmup, rate, first, last, _ = RATES[data]
    length, factor = 20, 4096 / 512
    ours, theirs = (torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate * factor) for _ in range(2))
    schedulers = []
    for settings in CONFIGS[name].param_scheduler:
        settings = settings.copy()
        scheduler = PARAM_SCHEDULERS.get(settings.pop('type'))
        assert settings.pop('convert_to_iter_based')
        schedulers.append(scheduler.build_iter_from_epoch(ours, epoch_length=length, **settings))
    reference = CosineLRScheduler(theirs, t_initial=epochs * length, lr_min=last * factor, cycle_limit=1,
                                  warmup_lr_init=first * factor, warmup_t=warmup * length, t_in_epochs=False)
    for step in range(epochs * length):
        reference.step_update(step)
        got, want = ours.param_groups[0]['lr'], theirs.param_groups[0]['lr']
        slack = 0.02 * rate * factor if step <= warmup * length else 1e-3 * want
        assert math.isclose(got, want, rel_tol=0, abs_tol=slack), (step, got, want)
        ours.step()
        for scheduler in schedulers:
            scheduler.step()


@pytest.mark.parametrize('name', ['tinyvit/distill_in21k', 'tinyvit/tiny_vit_5m_distill_in1k'])
def test_weight_decay_spares_what_the_original_spares(name):
    cfg = load(name)
    model = build(cfg, 'meta')
    settings = cfg.optim_wrapper.copy()
    optimizer = DefaultOptimWrapperConstructor(settings, settings.pop('paramwise_cfg'))(model).optimizer
    decays = {id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']}
    for key, parameter in model.named_parameters():
        spared = parameter.ndim == 1 or key.endswith('.bias') or 'attention_biases' in key
        assert decays[id(parameter)] == (0 if spared else cfg.optim_wrapper.optimizer.weight_decay), key


# ---------------------------------------------------------------- on a few images
@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """The folders that the configs name, with six noise images each."""
    root = tmp_path_factory.mktemp('world')
    folders = [*(f'data/imagenet/{split}/{name}' for split in ('train', 'val') for name in SYNSETS),
               *(f'data/imagenet21k/{name}' for name in SYNSETS),
               *(f'data/imagenette96/{split}/{name}' for split in ('train', 'val') for name in SYNSETS),
               *(f'work_dirs/demo/digits/{split}/{digit}' for split in ('train', 'val') for digit in range(10))]
    rng = np.random.default_rng(0)
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for number in range(1 if 'digits' in folder else 3):
            pixels = rng.integers(0, 256, (32, 32, 3) if 'digits' in folder else (48, 64, 3), np.uint8)
            Image.fromarray(pixels).save(root / folder / f'{number}.png')
    index_images(root / 'data/imagenet21k', root / 'data/imagenet21k/images.index')
    return root


def on_a_few_images(name: str, work_dir: Path) -> Config:
    """The config with small networks, small views, one epoch and the images of :func:`world`."""
    cfg = load(name)
    cfg.work_dir = str(work_dir)
    for loader in filter(None, (cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test'))):
        loader.update(batch_size=4, num_workers=0, persistent_workers=False, pin_memory=False)
        loader.dataset.pop('indices', None)
        if loader.dataset.type == 'mmtinyvit.IndexedImages':
            loader.dataset.num_classes = None
        elif loader.dataset.type == 'mmtinyvit.ImageNet':
            loader.dataset.metainfo = dict(classes=SYNSETS)
        for augment in (t for t in loader.dataset.pipeline if t['type'] == 'mmtinyvit.SeededAugment'):
            augment['transforms'][0].update(scale=32)
    backbone = cfg.model.get('backbone', {})
    if backbone.get('type') == 'mmtinyvit.TinyViT':
        backbone.arch = TINY
        backbone.pop('window_sizes', None)
        cfg.model.head.in_channels = 32
    elif backbone.get('type') == 'mmtinyvit.CLIPVisionTower':
        backbone.update(img_size=32, patch_size=16, width=32, depth=1, num_heads=1, out_channels=32)
        cfg.model.head.in_channels = 32
    elif cfg.model.type == 'TimmClassifier' and cfg.model.get('pretrained'):
        cfg.model.update(model_name='test_resnet', pretrained=False)
    if saves(cfg):
        cfg.test_cfg.views = (0, 1)
    else:
        cfg.train_cfg.update(max_epochs=1, val_interval=1)
    return cfg


def save_store(name: str, work_dir: Path) -> LogitStore:
    cfg = on_a_few_images(name, work_dir)
    if not Path(cfg.test_cfg.store).exists():
        torch.manual_seed(0)
        Runner.from_cfg(cfg).test()
    return LogitStore(cfg.test_cfg.store)


@pytest.mark.parametrize('name', TEACHERS.values())
def test_teacher_saves(name, world, tmp_path, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.setenv('MMTINYVIT_DATA', 'data')
    store = save_store(name, tmp_path)
    (present, expected), = ((there.present, there.expected) for there in store.coverage().values())
    assert present == expected and store.num_samples in (6, 10)
    assert store.topk == CONFIGS[name].test_cfg.topk
    assert store.mixing == bool(CONFIGS[name].test_cfg.get('mixing'))


@pytest.mark.parametrize('name', [name for name, cfg in CONFIGS.items()
                                  if cfg.get('train_cfg') and 'model' in cfg and not saves(cfg)])
def test_one_epoch_of_training(name, world, tmp_path, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.setenv('MMTINYVIT_DATA', 'data')
    store = store_read_by(CONFIGS[name])
    if store:
        save_store(TEACHERS[store], tmp_path)
    runner = Runner.from_cfg(on_a_few_images(name, tmp_path))
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
