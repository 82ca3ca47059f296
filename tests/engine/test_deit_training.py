"""DeiT's distillation in a real Runner: a teacher beside the student and a store, EMA, resuming, two processes."""
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from processes import in_ranks, train_in_turn
from timm.models.deit import VisionTransformerDistilled
from tiny_flow import CLASSES, NORM, distilling, recorded, saving, scalars, teacher

from mmtinyvit.engine.hooks import AverageWeightsHook
from mmtinyvit.models.checkpoint_keys import convert_deit_state_dict

MIXING = dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5)
SOFT = dict(type='mmtinyvit.SoftDistillationLoss', temperature=2.)
HARD = dict(type='mmtinyvit.HardDistillationLoss')
RUNS = itertools.count()
WIDTHS = dict(deit=24, tinyvit=16)


def student(checkpoint: Path | None = None, network: str = 'deit', **model) -> dict:
    backbone = dict(
        deit=dict(type='mmtinyvit.DistilledDeiT', img_size=32, arch=dict(
            embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)),
        tinyvit=dict(type='mmtinyvit.TinyViT', arch=dict(
            embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_sizes=(7, 4, 4, 4))))
    asked = dict(teacher=dict(model=teacher() | dict(data_preprocessor=dict(NORM)), checkpoint=str(checkpoint)))
    return dict(
        type='mmtinyvit.DeiTDistillClassifier', backbone=backbone[network],
        head=dict(type='mmtinyvit.DeiTDistillHead', num_classes=CLASSES, in_channels=WIDTHS[network],
                  loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'))) | (
                      asked if checkpoint else {}) | model


def training(photos: Path, work_dir: Path, store: Path | None = None, mixed: bool = False, **changes) -> Config:
    """A training on the store, or without one on the same views."""
    if mixed:
        changes['sampler'] = dict(type='mmtinyvit.PairedSampler', base_seed=7)
    cfg = distilling(photos, store, work_dir, **changes)
    cfg.train_dataloader.dataset.pipeline.insert(0, dict(type='mmtinyvit.MapLabel', index=[0, 1, 2]))  # of 12 classes
    cfg.data_preprocessor = dict(type='mmtinyvit.ReplayDataPreprocessor', num_classes=CLASSES, **NORM) | (
        dict(mixing=dict(MIXING, base_seed=7)) if mixed else {})
    if store is None:
        cfg.custom_hooks[0] = dict(type='mmtinyvit.EpochClockHook', num_views=2)
    cfg.experiment_name = f'run_{next(RUNS)}'  # MMEngine tells runs of the same second apart by it
    return Config(cfg.to_dict(), format_python_code=False)  # formatting takes half a second per checkpoint


def logged(work_dir: Path) -> dict[str, np.ndarray]:
    """Every iteration's scalars by name."""
    lines = scalars(work_dir)
    return {name: np.array([line[name] for line in lines]) for name in lines[0]}


# ---------------------------------------------------------------- online and stored
@pytest.fixture(scope='module')
def stores(tmp_path_factory, photos, teacher_checkpoint):
    """Stores of all classes, by codec and mixing."""
    folder, found = tmp_path_factory.mktemp('all_classes'), {}
    for codec, mixed in (('exact', False), ('compact', False), ('compact', True)):
        path = folder / f'{codec}_{mixed}'
        cfg = saving(photos, path, folder / 'work', teacher_checkpoint, topk=CLASSES, codec=codec)
        cfg.test_cfg.mixing = MIXING if mixed else None
        Runner.from_cfg(cfg).test()
        found[codec, mixed] = path
    return found


@pytest.mark.parametrize('network, codec, mixed, distill, slack', [
    ('deit', 'exact', False, HARD, 1e-5),
    ('deit', 'compact', True, HARD, 1e-5),
    ('deit', 'exact', False, SOFT, 5e-3),
    ('deit', 'compact', True, SOFT, 1e-2),
    ('tinyvit', 'compact', False, SOFT, 1e-2),
])
def test_online_and_stored_targets_give_the_same_losses(network, codec, mixed, distill, slack, stores, tmp_path, photos,
                                                        teacher_checkpoint):
    """Six steps over two views, in the same order, from the same start: hard exactly, soft within the codec's error."""
    model = dict(network=network, distill=distill)
    Runner.from_cfg(training(photos, tmp_path / 'online', None, mixed,
                             model=student(teacher_checkpoint, **model))).train()
    Runner.from_cfg(training(photos, tmp_path / 'stored', stores[codec, mixed], mixed, model=student(**model))).train()
    assert recorded(tmp_path / 'online') == recorded(tmp_path / 'stored')  # names, order and pixels
    online, stored = logged(tmp_path / 'online'), logged(tmp_path / 'stored')
    assert len(online['loss']) >= 5 and online['loss_distill'].min() > 0.1
    for name in ('loss_label', 'loss_distill', 'loss'):
        assert np.abs(online[name] - stored[name]).max() <= slack * online[name].max(), name
    assert (online['teacher_agreement'] == stored['teacher_agreement']).all()
    first, second = (torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False)['state_dict']
                     for name in ('online', 'stored'))
    assert first.keys() == second.keys()


# ---------------------------------------------------------------- averaged weights, stopping and going on
def test_ema_and_a_resume_know_no_teacher(tmp_path, photos, teacher_checkpoint):
    """The second half done twice, once by a run that starts from the second epoch, is the same to the bit."""
    def config() -> Config:
        cfg = training(photos, tmp_path, model=student(teacher_checkpoint, distill=SOFT), epochs=4)
        cfg.custom_hooks.append(dict(type='mmtinyvit.AverageWeightsHook', momentum=0.1))
        return cfg

    runner = Runner.from_cfg(config())
    runner.train()
    averaged = next(hook for hook in runner.hooks if isinstance(hook, AverageWeightsHook)).ema_model.module
    assert averaged.teacher is runner.model.teacher and averaged.backbone is not runner.model.backbone
    whole = torch.load(tmp_path / 'epoch_4.pth', weights_only=False)
    cfg = config()
    cfg.resume, cfg.load_from = True, str(tmp_path / 'epoch_2.pth')
    Runner.from_cfg(cfg).train()
    again = torch.load(tmp_path / 'epoch_4.pth', weights_only=False)
    for part in ('state_dict', 'ema_state_dict'):
        assert all(torch.equal(whole[part][name], value) for name, value in again[part].items())
    assert {name.removeprefix('module.') for name in whole['ema_state_dict']} - {'steps'} == set(whole['state_dict'])
    assert not any('teacher' in name for name in [*whole['state_dict'], *whole['ema_state_dict']])
    assert any(not torch.equal(value, whole['ema_state_dict'][f'module.{name}'])
               for name, value in whole['state_dict'].items())
    trained = sum(len(group['params']) for group in whole['optimizer']['param_groups'])
    assert trained == len(list(runner.model.parameters()))


def test_finetuning_larger_starts_from_the_averaged_weights(tmp_path, photos, teacher_checkpoint):
    """From 32 to 48 pixels: training starts at what `state_dict` holds, with the position embedding resized."""
    def config(name: str, size: int, **changes) -> Config:
        cfg = training(photos, tmp_path / name, model=student(teacher_checkpoint), epochs=1)
        cfg.model.backbone.img_size = size
        cfg.custom_hooks.append(dict(type='mmtinyvit.AverageWeightsHook', momentum=0.1))
        cfg.merge_from_dict(changes)
        return cfg

    Runner.from_cfg(config('small', 32)).train()
    saved = torch.load(tmp_path / 'small/epoch_1.pth', weights_only=False)['state_dict']
    cfg = config('large', 48, load_from=str(tmp_path / 'small/epoch_1.pth'))
    cfg.optim_wrapper.optimizer.lr = 0.
    large = Runner.from_cfg(cfg)
    large.train()
    old, new = saved.pop('backbone.pos_embed'), large.model.backbone.pos_embed
    grid = torch.nn.functional.interpolate(old[:, 2:].reshape(1, 2, 2, 24).permute(0, 3, 1, 2), (3, 3), mode='bicubic')
    assert torch.equal(new[:, :2], old[:, :2])
    assert torch.allclose(new[:, 2:], grid.flatten(2).transpose(1, 2), atol=1e-6)
    assert all(torch.equal(large.model.state_dict()[name], value) for name, value in saved.items())


@pytest.mark.parametrize('wrapped', [True, False], ids=['model', 'bare'])
def test_an_official_checkpoint_is_tested_with_averaged_weights(wrapped, tmp_path, photos):
    """Under the original's keys: both the model and its averages take it, and the predictions are timm's."""
    torch.manual_seed(0)
    theirs = VisionTransformerDistilled(img_size=32, patch_size=16, embed_dim=24, depth=2, num_heads=3, mlp_ratio=2,
                                        num_classes=CLASSES).eval()
    state = theirs.state_dict()
    torch.save(dict(model=state) if wrapped else state, tmp_path / 'official.pth')
    cfg = training(photos, tmp_path, model=student())
    cfg.load_from, cfg.custom_hooks = str(tmp_path / 'official.pth'), [dict(type='mmtinyvit.AverageWeightsHook')]
    pipeline = [dict(type='mmtinyvit.LoadImage'), dict(type='Resize', scale=(32, 32)), dict(type='PackInputs')]
    cfg.test_dataloader = dict(cfg.train_dataloader, dataset=dict(cfg.train_dataloader.dataset, pipeline=pipeline))
    cfg.test_cfg, cfg.test_evaluator = dict(), dict(type='Accuracy')
    runner = Runner.from_cfg(cfg)
    tested = []
    runner.model.register_forward_pre_hook(lambda module, _: tested.append(
        {name: value.clone() for name, value in module.state_dict().items()}))
    runner.test()
    averaged = next(hook for hook in runner.hooks if isinstance(hook, AverageWeightsHook)).ema_model.module
    wanted = convert_deit_state_dict(state)
    for found in (runner.model.state_dict(), averaged.state_dict(), tested[0]):
        assert all(torch.equal(found[name], value) for name, value in wanted.items())
    inputs = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(runner.model.eval()(inputs), theirs(inputs), atol=1e-5)


# ---------------------------------------------------------------- two processes
def test_two_processes_do_what_one_does(tmp_path, photos, teacher_checkpoint):
    """Twice three images are six; at alpha 0 the distillation head gets no gradient, and no process waits for one."""
    def config(name: str, batch_size: int, alpha: float) -> Config:
        cfg = training(photos, tmp_path / f'{name}_{alpha}', batch_size=batch_size, epochs=1,
                       model=student(teacher_checkpoint, alpha=alpha, distill=SOFT))
        cfg.train_dataloader.dataset.indices = 12
        return cfg

    alphas = (0.5, 0.)
    for alpha in alphas:
        Runner.from_cfg(config('one', 6, alpha)).train()
    in_ranks(train_in_turn, [config('two', 3, alpha) for alpha in alphas])
    for alpha in alphas:
        one, two = (torch.load(tmp_path / f'{name}_{alpha}' / 'epoch_1.pth', weights_only=False)['state_dict']
                    for name in ('one', 'two'))
        assert one.keys() == two.keys()
        for name, value in one.items():
            assert torch.allclose(value, two[name], rtol=1e-4, atol=1e-6), (alpha, name)
