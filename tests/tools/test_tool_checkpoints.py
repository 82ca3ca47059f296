"""Each tool and the checkpoint it is given: filled, or one sentence; and never code from a file."""
import os
from pathlib import Path

import pytest
import torch
from tiny_flow import distilling, labelled_loader, saving

from mmtinyvit.store import LogitStore


class Malicious:
    def __reduce__(self):
        return os.mkdir, ('executed', )


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def save_config(tmp_path, photos):
    saving(photos, tmp_path / 'store', tmp_path / 'saving').dump('save.py')
    return 'save.py'


@pytest.fixture
def train_config(tmp_path, photos, saved_store):
    """Trains, and tests with the training's images."""
    cfg = distilling(photos, saved_store, tmp_path / 'work', epochs=1, batch_size=7)
    cfg.merge_from_dict(dict(
        test_dataloader=labelled_loader(photos), test_cfg=dict(), test_evaluator=dict(type='Accuracy')))
    cfg.dump('train.py')
    return 'train.py'


def commands(train_config, save_config, checkpoint) -> dict[str, tuple]:
    """Every tool that takes a checkpoint, and each of its ways."""
    return {
        'test': ('test', train_config, checkpoint),
        'few_shot': ('few_shot', train_config, checkpoint, '--way', 2, '--shot', 1, '--query', 1, '--episodes', 2),
        'resume': ('train', train_config, '--resume', checkpoint),
        'load_from': ('train', train_config, '--cfg-options', f'load_from={checkpoint}'),
        'save_logits': ('save_logits', save_config, checkpoint, '--out', 'new_store'),
        'publish': ('publish_model', train_config, checkpoint, 'published/net.pth'),
        'onnx': ('export_onnx', train_config, 'net.onnx', '--checkpoint', checkpoint, '--size', 32),
    }


NAMES = list(commands('', '', ''))


@pytest.mark.parametrize('name', NAMES)
def test_no_code_and_no_half_network(run_tool, train_config, save_config, name):
    weights = dict(weight=torch.ones(1))
    torch.save(dict(state_dict=weights, meta=Malicious()), 'bad.pth')
    said = run_tool(*commands(train_config, save_config, 'bad.pth')[name]).sentence
    assert said.startswith('bad.pth is no checkpoint of tensors and plain values: it holds ') and 'mkdir' in said
    meta = dict(epoch=1, iter=2)
    torch.save(dict(state_dict=weights, meta=meta, message_hub={}, optimizer={}, param_schedulers=[]), 'other.pth')
    said = run_tool(*commands(train_config, save_config, 'other.pth')[name]).sentence
    assert said.startswith('The checkpoint other.pth does not fill ') and '1 are unknown (weight)' in said
    Path('torn.pth').write_bytes(Path('other.pth').read_bytes()[:-50])
    assert 'torn.pth is no checkpoint' in run_tool(*commands(train_config, save_config, 'torn.pth')[name]).sentence
    assert not any(Path(left).exists() for left in ('executed', 'new_store', 'published', 'net.onnx'))


def test_a_random_teacher_is_saved_only_on_purpose(run_tool, save_config):
    said = run_tool('save_logits', save_config).sentence
    assert said.startswith('The teacher ResNet_CIFAR has no weights for ') and '--random-teacher' in said
    assert not Path('store').exists()
    ended = run_tool('save_logits', save_config, '--random-teacher', '--views', '0:1')
    assert ended.status == 0, ended.err
    assert LogitStore('store').views == [0]


def test_a_random_teacher_is_asked_only_on_purpose(run_tool, tmp_path, photos):
    model = saving(photos, tmp_path / 'store', tmp_path / 'saving').model.to_dict()
    hook = dict(type='mmtinyvit.CacheLogitsHook', teacher_model=model | dict(data_preprocessor=dict()), topk=3)
    cfg = distilling(photos, tmp_path / 'store', tmp_path / 'work', epochs=1, hook=hook)
    cfg.train_dataloader.dataset.pipeline[2].mode = 'auto'
    cfg.dump('cache.py')
    assert 'ResNet_CIFAR has no weights for ' in run_tool('train', 'cache.py').sentence
    assert not Path('store').exists()
    cfg.custom_hooks[0].random_teacher = True
    cfg.dump('cache.py')
    ended = run_tool('train', 'cache.py')
    assert ended.status == 0, ended.err
    assert LogitStore('store').views == [0]


def test_a_finished_training_is_tested_published_and_gone_on_with(run_tool, train_config, save_config):
    assert run_tool('train', train_config).status == 0
    assert not list(Path('work').glob('*.part'))
    for name in ('test', 'few_shot', 'load_from', 'publish', 'onnx'):
        ended = run_tool(*commands(train_config, save_config, 'work/epoch_1.pth')[name])
        assert ended.status == 0, (name, ended.err)
    ended = run_tool('train', train_config, '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    assert ended.status == 0 and Path('work/epoch_2.pth').is_file()
    said = run_tool('train', train_config, '--resume', str(next(Path('published').iterdir()))).sentence
    assert 'holds no training that could go on' in said
    Path('work/epoch_2.pth').unlink()
    assert 'work/epoch_1.pth: --resume ' in run_tool('train', train_config, '--resume').sentence
