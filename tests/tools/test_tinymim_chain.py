"""The chain: two trainings and a finetuning with the real tools, one of them broken off, on 14 images of 32 pixels."""
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from tiny_flow import NORM, runtime
from tiny_networks import build, vit_config

from mmtinyvit.cli.tinymim import Step

CROP = dict(type='RandomResizedCrop', scale=32)


@HOOKS.register_module()
class StopOnce(Hook):
    """End the training after the first epoch, if the file is not there yet."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def before_train_epoch(self, runner) -> None:
        if runner.epoch == 1 and not self.file.exists():
            self.file.touch()
            sys.exit(-9)


def recipe(photos: Path, model: dict, views: bool = True, epochs: int = 1, hooks: tuple = ()) -> dict:
    pair = dict(type='MultiView', num_views=[1, 1], transforms=[[], [dict(type='ColorJitter', brightness=0.4)]])
    replay = dict(type='mmtinyvit.SeededAugment', transforms=[CROP, *([pair] if views else [])], key_root=str(photos))
    pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
    return runtime(Path('unused')) | dict(
        model=model, data_preprocessor=dict(NORM, type='SelfSupDataPreprocessor') if views else NORM,
        train_dataloader=dict(batch_size=7, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                              collate_fn=dict(type='default_collate'),
                              dataset=dict(type='CustomDataset', data_prefix=str(photos), pipeline=pipeline)),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)), train_cfg=dict(by_epoch=True, max_epochs=epochs),
        custom_imports=dict(imports=['test_tinymim_chain']), work_dir=None,
        custom_hooks=[dict(type='mmtinyvit.EpochClockHook'), *hooks])


@pytest.fixture
def chain(tmp_path, photos):
    """Files: the first teacher, and the configs of a student, of that student's student, and of its finetuning."""
    first, small, tiny = vit_config(32, 4, 4), vit_config(32, 2, 2, 4, kind='MAEViT'), vit_config(16, 2, 2, 4)
    torch.manual_seed(0)
    torch.save(build(first).state_dict(), tmp_path / 'mae.pth')

    def write(name: str, content: dict) -> str:
        path = tmp_path / f'{name}.py'
        path.write_text('\n'.join(f'{key} = {value!r}' for key, value in content.items()))
        return str(path)

    def pretraining(student: dict, teacher: dict, block: int) -> dict:
        return dict(type='mmtinyvit.TinyMIM', backbone=student,
                    teacher=dict(backbone=teacher, checkpoint='absent.pth', block=block))

    stop = dict(type='StopOnce', file=str(tmp_path / 'stopped'))
    classifier = dict(type='ImageClassifier', backbone=vit_config(16, 2, 2), head=dict(
        type='LinearClsHead', num_classes=3, in_channels=16))
    return dict(
        teacher=str(tmp_path / 'mae.pth'),
        small=write('small', recipe(photos, pretraining(small, first, 3), epochs=2, hooks=(stop, ))),
        tiny=write('tiny', recipe(photos, pretraining(tiny, small | dict(type='mmpretrain.VisionTransformer'), 2))),
        wide=write('wide', recipe(photos, pretraining(vit_config(24, 2, 2, 4), first, 3))),
        heads=write('heads', recipe(photos, pretraining(vit_config(16, 2, 2, 2), first, 3))),
        tune=write('tune', recipe(photos, classifier, views=False)), out=tmp_path / 'out')


def test_broken_off_resumed_and_finished(chain, run_tool, monkeypatch):
    logs, run_elsewhere = [], subprocess.run

    def run(command: list[str], **options) -> subprocess.CompletedProcess:
        """The training in this process, which has imported everything already."""
        if options:  # what the training itself runs, to describe its environment
            return run_elsewhere(command, **options)
        ended = run_tool(Path(command[1]).stem, *command[2:])
        logs.append(ended.out + ended.err)
        return subprocess.CompletedProcess(command, ended.status)

    monkeypatch.setattr(subprocess, 'run', run)
    arguments = [chain['teacher'], '--configs', chain['small'], chain['tiny'], '--out', chain['out'], '--cfg-options',
                 'optim_wrapper.optimizer.lr=0.002']
    ended = run_tool('tinymim_chain', *arguments)
    assert 'ended with status -9' in ended.sentence and 'goes on from its last checkpoint' in ended.sentence
    assert not (chain['out'] / 'small/last.pth').exists() and not (chain['out'] / 'tiny').exists()

    ended = run_tool('tinymim_chain', *arguments)
    assert ended.status == 0, ended.err
    assert ['resumed epoch: 1' in log for log in logs] == [False, True, False]
    weights = {name: torch.load(chain['out'] / name / 'last.pth', weights_only=True) for name in ('small', 'tiny')}
    for name, tensors in weights.items():
        trained = torch.load(chain['out'] / name / f'epoch_{2 if name == "small" else 1}.pth', weights_only=False)
        assert tensors.keys() == {key for key in trained['state_dict'] if key.startswith('backbone.')}
        assert all(torch.equal(value, trained['state_dict'][key]) for key, value in tensors.items())
    assert json.loads((chain['out'] / 'tiny/last.json').read_text())['source'] == str(chain['out'] / 'small/last.pth')

    stamps = {name: (chain['out'] / name / 'last.pth').stat().st_mtime_ns for name in weights}
    ended = run_tool('tinymim_chain', *arguments)
    assert ended.status == 0 and ended.out.count('(before)') == 2
    assert stamps == {name: (chain['out'] / name / 'last.pth').stat().st_mtime_ns for name in weights}
    ended = run_tool('tinymim_chain', *arguments, 'optim_wrapper.optimizer.lr=1')
    assert 'differs in options: choose another --out' in ended.sentence


def test_finetuning_begins_with_the_student(chain, run_tool):
    step = Step(chain['tune'], chain['out'] / 'tune', chain['out'] / 'tiny/last.pth', finetunes=True, options=['a=1'])
    assert step.command()[-2:] == [f'load_from={step.source}', 'a=1'] and '--resume' not in step.command()
    step.work_dir.mkdir(parents=True)
    (step.work_dir / 'last_checkpoint').touch()
    assert step.command()[-2:] == ['--cfg-options', 'a=1'] and '--resume' in step.command()
    eight = Step(chain['small'], chain['out'], Path('t.pth')).command(gpus=8, amp=True)
    assert eight[0].endswith('dist_train.sh') and eight[1:3] == [chain['small'], '8'] and '--amp' in eight


@pytest.mark.parametrize(('configs', 'said'), [
    (['small', 'wide'], r'small.last.pth, whose network is another one'),
    (['wide', 'tiny'], r'wide.last.pth, whose network is another one'),
    (['heads'], 'the student has 2 heads and the target block of the teacher 4 heads'),
    (['tune'], 'is no recipe of TinyMIM'),
    (['small', 'small'], 'the same file name'),
])
def test_what_would_fail_later_fails_before_the_first_training(configs, said, chain, run_tool):
    ended = run_tool('tinymim_chain', chain['teacher'], '--out', chain['out'], '--configs',
                     *(chain[name] for name in configs))
    assert re.search(said, ended.sentence) and not chain['out'].exists()


def test_sentences_of_the_chain(chain, run_tool):
    ended = run_tool('tinymim_chain', 'absent.pth', '--out', chain['out'], '--configs', chain['small'])
    assert 'absent.pth, which does not exist' in ended.sentence
    ended = run_tool('tinymim_chain', chain['teacher'], '--configs', chain['small'], '--finetune', chain['tune'],
                     chain['tune'])
    assert '1 trainings and 2 configs' in ended.sentence


def test_the_default_chain_fits(tmp_path, run_tool):
    """All six steps are checked before the teacher is looked for."""
    ended = run_tool('tinymim_chain', tmp_path / 'absent.pth', '--out', tmp_path / 'out', '--finetune')
    assert 'mae_large_to_base.py begins with' in ended.sentence and 'does not exist' in ended.sentence
