"""Every checkpoint that a runner takes fills its model, and every one that it leaves behind is whole."""
import errno
import os
import re
import shutil
import signal
from pathlib import Path

import mmengine.fileio
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from processes import CLEAN
from tiny_flow import photo_dataset, runtime, student

from mmtinyvit.cli.runner import build_runner
from mmtinyvit.engine.runner import Runner
from mmtinyvit.errors import UserError

REQUIRE = dict(type='mmtinyvit.RequireWeightsHook')


def config(photos, work, epochs: int = 1, model: dict | None = None, hooks: tuple[dict, ...] = (), **changes) -> Config:
    """A training with labels, with averaged weights, which also tests."""
    loader = dict(batch_size=7, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                  collate_fn=dict(type='default_collate'), dataset=photo_dataset(photos))
    return Config(runtime(work) | dict(
        model=model or student(3) | dict(type='ImageClassifier'), train_dataloader=loader, test_dataloader=loader,
        test_cfg=dict(), test_evaluator=dict(type='Accuracy'),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=4, by_epoch=True),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        custom_hooks=[dict(type='mmtinyvit.EpochClockHook'), dict(type='mmtinyvit.AverageWeightsHook', momentum=.1),
                      *hooks]) | changes, format_python_code=False)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, photos):
    """The work folder of three epochs."""
    work = tmp_path_factory.mktemp('trained')
    build_runner(config(photos, work, 3)).train()
    return work


def changed(path: Path, to: Path, change) -> Path:
    checkpoint = torch.load(path, weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, to)
    return to


def without_half(checkpoint: dict) -> None:
    for name in list(checkpoint['state_dict'])[::2]:
        del checkpoint['state_dict'][name]


def with_other_names(checkpoint: dict) -> None:
    checkpoint['state_dict'] = {f'net.{name}': value for name, value in checkpoint['state_dict'].items()}


def of_another_network(checkpoint: dict) -> None:
    torch.manual_seed(0)
    init_default_scope('mmpretrain')
    other = MODELS.build(dict(type='ImageClassifier', backbone=dict(type='ResNet_CIFAR', depth=18)))
    checkpoint['state_dict'] = other.state_dict()


def with_another_head(checkpoint: dict) -> None:
    checkpoint['state_dict']['head.fc.weight'] = torch.zeros(5, 16)
    checkpoint['state_dict']['head.fc.bias'] = torch.zeros(5)


# ---------------------------------------------------------------- what goes in
@pytest.mark.parametrize('fault, says', [
    (without_half, 'are missing'), (with_other_names, 'are unknown .net.backbone'), (of_another_network, 'are missing'),
    (with_another_head, r'2 are of another shape .head.fc.weight is \[5, 16\] instead of \[3, 16\]')])
@pytest.mark.parametrize('hooks', [(), (REQUIRE, )], ids=['', 'RequireWeightsHook'])
def test_every_way_in_is_filled_or_refused(photos, tmp_path, trained, fault, says, hooks):
    wrong = changed(trained / 'epoch_3.pth', tmp_path / 'wrong.pth', fault)
    says = f'The checkpoint .*wrong.pth does not fill ImageClassifier: .*{says}'
    for resume in (False, True):
        with pytest.raises(UserError, match=says):
            build_runner(config(photos, tmp_path / 'work', 4, hooks=hooks, load_from=str(wrong), resume=resume)).train()
    with pytest.raises(UserError, match=says):
        build_runner(config(photos, tmp_path / 'work', hooks=hooks, load_from=str(wrong))).test()
    (tmp_path / 'auto').mkdir()
    (tmp_path / 'auto/last_checkpoint').write_text(str(wrong))
    with pytest.raises(UserError, match='does not fill ImageClassifier'):
        build_runner(config(photos, tmp_path / 'auto', 4, hooks=hooks, resume=True)).train()


def test_what_may_start_anew_is_named(photos, tmp_path, trained):
    other = student(7) | dict(type='ImageClassifier')
    settings = dict(model=other, load_from=str(trained / 'epoch_3.pth'))
    with pytest.raises(UserError, match='does not fill .* named by fresh= of mmtinyvit.RequireWeightsHook'):
        build_runner(config(photos, tmp_path / 'work', **settings)).train()
    build_runner(config(photos, tmp_path / 'work', hooks=(REQUIRE | dict(fresh=['head.']), ), **settings)).train()
    new = dict(type='mmtinyvit.NewHeadHook')
    build_runner(config(photos, tmp_path / 'work', hooks=(new, REQUIRE | dict(fresh=['head.'])), **settings)).train()
    assert (tmp_path / 'work/epoch_1.pth').is_file()


def test_what_init_cfg_names_fills_its_part_or_is_refused(photos, tmp_path):
    """A backbone of mmpretrain, which MMEngine would train half filled."""
    init_default_scope('mmpretrain')
    network = dict(type='ImageClassifier', neck=dict(type='GlobalAveragePooling'),
                   head=dict(type='LinearClsHead', num_classes=3, in_channels=512))
    backbone = dict(type='ResNet_CIFAR', depth=18)
    whole = MODELS.build(network | dict(backbone=backbone)).state_dict()
    torch.save(whole, tmp_path / 'whole.pth')
    torch.save({name: value for name, value in whole.items() if 'layer4' not in name}, tmp_path / 'half.pth')

    def start(name: str, hooks: tuple[dict, ...] = ()) -> Runner:
        init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / name), prefix='backbone.')
        runner = build_runner(config(photos, tmp_path / 'work', hooks=hooks,
                                     model=network | dict(backbone=backbone | dict(init_cfg=init_cfg)),
                                     optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.))))
        runner.train()
        return runner

    found = start('whole.pth', (REQUIRE, )).model.backbone
    assert all(torch.equal(value, whole[f'backbone.{name}']) for name, value in found.named_parameters())
    with pytest.raises(UserError, match='half.pth does not fill ResNet_CIFAR: .*layer4.* fresh= of mmtinyvit.Require'):
        start('half.pth')
    found = start('half.pth', (REQUIRE | dict(fresh=['backbone.layer4.']), )).model.backbone
    assert torch.equal(found.layer3[0].conv1.weight, whole['backbone.layer3.0.conv1.weight'])


VIT = dict(arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32), img_size=32, patch_size=8)
SWIN = dict(type='mmpretrain.SwinTransformer', window_size=2, img_size=64, arch=dict(
    embed_dims=8, depths=[1] * 4, num_heads=[1, 1, 2, 2]))
RESNET = dict(type='mmdet.ResNet', depth=50, base_channels=8, num_stages=4, out_indices=(3, ))
UPPER = (False, False, True, True)


@pytest.mark.parametrize('published, backbone, fresh', [
    (RESNET, RESNET | dict(dcn=dict(type='DCN', deform_groups=1), stage_with_dcn=UPPER),
     ['layer3.*.conv2.conv_offset.', 'layer4.*.conv2.conv_offset.']),
    (RESNET, RESNET | dict(plugins=[dict(cfg=dict(type='ContextBlock', ratio=1 / 4), stages=UPPER,
                                         position='after_conv3')]),
     ['layer3.*.context_block.', 'layer4.*.context_block.']),
    (dict(type='MAEViT', **VIT), dict(type='VisionTransformer', out_type='avg_featmap', **VIT), ['ln2.']),
    (dict(type='BEiTPretrainViT', use_abs_pos_emb=False, use_shared_rel_pos_bias=True, **VIT),
     dict(type='BEiTViT', use_abs_pos_emb=False, use_shared_rel_pos_bias=False, use_rel_pos_bias=True,
          out_type='avg_featmap', **VIT), ['ln2.']),
    (SWIN, SWIN | dict(out_indices=(2, 3)), ['norm2.']),
], ids=['deformable', 'plugins', 'MAE', 'BEiT', 'Swin'])
def test_layers_that_published_weights_cannot_know(photos, tmp_path, published, backbone, fresh):
    """The sentence has what to write into the config, and with it the training starts from all other weights."""
    init_default_scope('mmpretrain')
    torch.manual_seed(1)
    state = {f'backbone.{name}': value for name, value in MODELS.build(published).state_dict().items()}
    torch.save(state | {'head.fc.weight': torch.ones(3, 4)}, tmp_path / 'published.pth')
    backbone = backbone | dict(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'published.pth'),
                                             prefix='backbone.'))

    def start(*hooks: dict) -> Runner:
        runner = build_runner(config(photos, tmp_path / 'work', hooks=hooks, model=dict(
            type='ImageClassifier', backbone=backbone, head=dict(type='LinearClsHead', num_classes=3, in_channels=16))))
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        runner._init_model_weights()
        return runner

    fresh = [f'backbone.{name}' for name in fresh]
    with pytest.raises(UserError, match=re.escape(f'RequireWeightsHook in custom_hooks, here fresh={fresh}.')):
        start()
    found = start(REQUIRE | dict(fresh=fresh)).model.state_dict()
    for name, value in state.items():
        if name in found and 'running' not in name:
            assert torch.equal(found[name], value), name
    if 'backbone.rel_pos_bias.relative_position_bias_table' in state:  # one for all blocks, which becomes one for each
        assert torch.equal(found['backbone.layers.1.attn.relative_position_bias_table'],
                           state['backbone.rel_pos_bias.relative_position_bias_table'])


def test_wrappers_are_taken_off_before_the_hooks_see_them(photos, tmp_path, trained):
    """Averaged weights start from the same, and a new head finds the old one."""
    state = torch.load(trained / 'epoch_3.pth', weights_only=False)['state_dict']
    torch.save(dict(model={f'module._orig_mod.{name}': value for name, value in state.items()}), tmp_path / 'net.pth')
    runner = build_runner(config(photos, tmp_path / 'work', load_from=str(tmp_path / 'net.pth')))
    runner.call_hook('before_run')
    runner.load_or_resume()
    average = next(hook for hook in runner.hooks if hasattr(hook, 'ema_model')).ema_model.module.state_dict()
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, state[name]) and torch.equal(average[name], state[name]), name


def test_resuming_gives_what_was_not_interrupted(photos, tmp_path, trained):
    """Weights, averages, optimizer, schedule and curves, read without running code."""
    runner = build_runner(config(photos, tmp_path / 'work', 3, resume=True, load_from=str(trained / 'epoch_2.pth')))
    runner.train()
    whole, again = (torch.load(work / 'epoch_3.pth', weights_only=False) for work in (trained, tmp_path / 'work'))
    for entry in ('state_dict', 'ema_state_dict'):
        for name, value in whole[entry].items():
            assert torch.equal(value, again[entry][name]), name
    for index, state in whole['optimizer']['state'].items():
        assert all(torch.equal(value, again['optimizer']['state'][index][name]) for name, value in state.items())
    assert whole['param_schedulers'] == again['param_schedulers']
    first, second = (saved['message_hub']['log_scalars']['train/loss'].data[0] for saved in (whole, again))
    assert first.tolist() == second.tolist() and len(first) == 6


@pytest.mark.parametrize('entry', ['meta', 'message_hub', 'optimizer', 'param_schedulers'])
def test_weights_alone_are_not_resumed(photos, tmp_path, trained, entry):
    """MMEngine goes on without the optimizer's state, and with the schedule at its beginning."""
    part = changed(trained / 'epoch_2.pth', tmp_path / 'part.pth', lambda checkpoint: checkpoint.pop(entry))
    with pytest.raises(UserError, match=f'part.pth holds no training that could go on, as it lacks {entry}: resume '):
        build_runner(config(photos, tmp_path / 'work', 3, resume=True, load_from=str(part))).train()
    part = changed(trained / 'epoch_2.pth', tmp_path / 'part.pth', lambda checkpoint: checkpoint['meta'].pop('iter'))
    with pytest.raises(UserError, match='lacks meta.iter'):
        build_runner(config(photos, tmp_path / 'work', 3, resume=True, load_from=str(part))).train()


def test_a_config_in_a_checkpoint_is_not_run(photos, tmp_path, trained):
    """MMEngine executes ``meta['config']`` when it resumes."""
    code = f'import os\nos.mkdir({str(tmp_path / "executed")!r})\n'
    bad = changed(trained / 'epoch_2.pth', tmp_path / 'bad.pth', lambda saved: saved['meta'].update(config=code))
    build_runner(config(photos, tmp_path / 'work', 3, resume=True, load_from=str(bad))).train()
    assert (tmp_path / 'work/epoch_3.pth').is_file() and not (tmp_path / 'executed').exists()


@pytest.mark.parametrize('named', ['/gone/epoch_3.pth', ''])
def test_a_pointer_to_nothing(photos, tmp_path, trained, named):
    (tmp_path / 'last_checkpoint').write_text(named)
    resume = config(photos, tmp_path, 3, resume=True)
    with pytest.raises(UserError, match=f"last_checkpoint names the checkpoint '{named}', which is not there; name a"):
        build_runner(resume).train()
    shutil.copy(trained / 'epoch_2.pth', tmp_path)
    if named:
        with pytest.raises(UserError, match='is not there; the newest there is .*epoch_2.pth: --resume .*epoch_2.pth'):
            build_runner(resume).train()
        return
    build_runner(resume).train()  # MMEngine was killed while it wrote the name
    assert (tmp_path / 'epoch_3.pth').is_file() and not (tmp_path / 'epoch_1.pth').exists()
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_3.pth')


# ---------------------------------------------------------------- what comes out
def killed_in_the_second_write(cfg: Config, max_keep: int) -> None:
    """A process that dies when half of its second checkpoint is on disk."""
    put, written = mmengine.fileio.LocalBackend.put, []

    def put_half(self, content, path):
        written.append(path)
        if len(written) == 2:
            put(self, content[:len(content) // 2], path)
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, content, path)

    mmengine.fileio.LocalBackend.put = put_half
    cfg.default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=max_keep))
    build_runner(cfg).train()


@pytest.mark.parametrize('max_keep', [-1, 1])
def test_a_training_killed_while_it_writes_goes_on(photos, tmp_path, max_keep):
    process = CLEAN.Process(target=killed_in_the_second_write, args=(config(photos, tmp_path, 3), max_keep))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']
    last = Path((tmp_path / 'last_checkpoint').read_text())
    assert torch.load(last, weights_only=False)['meta']['epoch'] == 1
    keep = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=max_keep))
    build_runner(config(photos, tmp_path, 3, resume=True, default_hooks=keep)).train()
    left = sorted(path.name for path in tmp_path.iterdir() if path.is_file() and 'epoch' in path.name)
    assert left == (['epoch_3.pth'] if max_keep == 1 else ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth'])


def test_a_full_disk_leaves_the_last_checkpoint(photos, tmp_path, monkeypatch):
    put, written = mmengine.fileio.LocalBackend.put, []

    def fill(self, content, path):
        written.append(path)
        if len(written) == 2:
            put(self, content[:1000], path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(self, content, path)

    monkeypatch.setattr(mmengine.fileio.LocalBackend, 'put', fill)
    keep = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1))
    with pytest.raises(UserError, match='The disk is full: .*epoch_2.pth cannot be written .*--resume'):
        build_runner(config(photos, tmp_path, 3, default_hooks=keep)).train()
    assert [path.name for path in tmp_path.glob('*.pth*')] == ['epoch_1.pth']


def test_the_best_checkpoint_is_replaced_by_a_better(photos, tmp_path):
    cfg = config(photos, tmp_path, 3, default_hooks=dict(checkpoint=dict(
        type='CheckpointHook', interval=1, max_keep_ckpts=1, save_best='accuracy/top1', rule='greater')))
    cfg.merge_from_dict(dict(val_dataloader=cfg.test_dataloader, val_cfg=dict(), val_evaluator=cfg.test_evaluator))
    cfg.val_dataloader.dataset.pipeline = [dict(type='mmtinyvit.LoadImage'), dict(type='Resize', scale=32),
                                           dict(type='PackInputs')]
    runner = build_runner(cfg)
    scores = iter([1., 3., 2.])
    runner.val_evaluator.evaluate = lambda size: {'accuracy/top1': next(scores)}
    runner.train()
    left = sorted(path.name for path in tmp_path.glob('*.pth'))
    assert left == ['best_accuracy_top1_epoch_2.pth', 'epoch_3.pth']


def test_a_hook_of_ones_own_stays(photos, tmp_path):
    from mmengine.hooks import CheckpointHook
    own = CheckpointHook(interval=2)
    runner = build_runner(config(photos, tmp_path))
    runner._hooks = []
    Runner.register_default_hooks(runner, dict(checkpoint=own))
    assert own in runner.hooks
