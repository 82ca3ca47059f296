"""A student of timm from its store to a finetuned classifier: its network says where its classifier lies."""
import re
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from tiny_flow import distilling

from mmtinyvit.engine.hooks.start import head_tensors
from mmtinyvit.engine.runner import Runner
from mmtinyvit.paths import config_root

NAME = 'mobilenetv3_small_050'
PAGE = config_root().parent / 'docs/en/finetuning.md'


@pytest.fixture(scope='module')
def distilled(photos, saved_store, tmp_path_factory):
    """The checkpoint of a student with twelve classes."""
    folder = tmp_path_factory.mktemp('timm')
    model = dict(type='mmtinyvit.DistillTimmClassifier', model_name=NAME, num_classes=12)
    cfg = distilling(photos, saved_store, folder, epochs=1, model=model)
    cfg.default_hooks.class_names = dict(type='mmtinyvit.ClassNamesHook')
    Runner.from_cfg(cfg).train()
    return folder / 'epoch_1.pth'


@pytest.fixture
def finetuning(photos, distilled, tmp_path, run_tool):
    """Finetune the student by the config of the docs on the photos' three classes, with ``hooks`` before the last."""
    shown, = (block for block in re.findall('```python\n(.*?)```', PAGE.read_text(), re.DOTALL) if 'Timm' in block)

    def run(hooks: list[dict], num_classes: int = 3):
        loader = dict(batch_size=7, num_workers=0, persistent_workers=False)
        hooks = [dict(type='mmtinyvit.EpochClockHook'), *hooks, dict(type='mmtinyvit.RequireWeightsHook')]
        text = shown.replace("_base_ = '", f"_base_ = '{config_root()}/tinyvit/") + f'''
model.update(num_classes={num_classes}, model_name={NAME!r})
data_preprocessor = dict(num_classes=3)
train_dataloader = dict(**{loader}, dataset=dict(
    _delete_=True, type='mmtinyvit.ImageFolder', data_prefix={str(photos)!r}, pipeline=_base_.train_pipeline))
val_dataloader = test_dataloader = dict(**{loader}, dataset=dict(
    _delete_=True, type='mmtinyvit.ImageFolder', data_prefix={str(photos)!r}, pipeline=_base_.test_pipeline))
val_evaluator = test_evaluator = dict(topk=1)
custom_hooks = {hooks}
train_cfg = dict(max_epochs=1)
'''
        (tmp_path / 'finetune.py').write_text(text)
        return run_tool('train', tmp_path / 'finetune.py', '--work-dir', tmp_path / 'work', '--cfg-options',
                        f'load_from={distilled}', 'optim_wrapper.optimizer.lr=0')  # so that what was loaded shows

    return run


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=False)['state_dict']


def test_a_new_head(finetuning, distilled, tmp_path, run_tool):
    ended = finetuning([dict(type='mmtinyvit.NewHeadHook')])
    assert ended.status == 0, ended.err
    assert "The checkpoint's head of 12 classes is left out" in ended.out
    before, after = tensors(distilled), tensors(tmp_path / 'work/epoch_1.pth')
    assert before.keys() == after.keys()
    for name, value in before.items():
        if 'running' not in name and 'tracked' not in name:
            assert torch.equal(value, after[name]) != name.startswith('classifier.'), name
    assert after['classifier.weight'].shape[0] == 3

    tested = run_tool('test', tmp_path / 'finetune.py', tmp_path / 'work/epoch_1.pth', '--work-dir', tmp_path / 'work')
    assert tested.status == 0, tested.err


def test_a_mapped_head(finetuning, distilled, tmp_path):
    (tmp_path / 'large.txt').write_text('\n'.join(f'c{i}' for i in range(12)))
    (tmp_path / 'small.txt').write_text('c7\nc2\nc9')
    ended = finetuning([dict(type='mmtinyvit.MapHeadHook', source=str(tmp_path / 'large.txt'),
                             target=str(tmp_path / 'small.txt'))])
    assert ended.status == 0, ended.err
    assert 'Head of 12 classes mapped to 3: 3 rows matched' in ended.out
    before, after = tensors(distilled), tensors(tmp_path / 'work/epoch_1.pth')
    for name in ('classifier.weight', 'classifier.bias'):
        assert torch.equal(after[name], before[name][[7, 2, 9]])


@pytest.mark.parametrize(('hooks', 'sentence'), [
    ([], r'of another shape \(classifier.weight is \[12, 1024\] instead of \[3, 1024\], classifier.bias'),
    ([dict(type='mmtinyvit.MapHeadHook')], 'head of 12 classes and the model one of 3, which MapHeadHook cannot map '
                                           r'\(to start with a new head, replace it by mmtinyvit.NewHeadHook'),
])
def test_another_head_is_one_sentence(finetuning, hooks, sentence):
    assert re.search(sentence, finetuning(hooks).sentence)


@pytest.mark.parametrize(('name', 'head'), [
    ('resnet10t', ['fc.weight', 'fc.bias']), ('convnext_atto', ['head.fc.weight', 'head.fc.bias']),
    ('tiny_vit_5m_224', ['head.fc.weight', 'head.fc.bias']),
    ('deit_tiny_distilled_patch16_224', ['head.weight', 'head.bias', 'head_dist.weight', 'head_dist.bias']),
    ('levit_128s', ['head.linear.weight', 'head.linear.bias', 'head_dist.linear.weight', 'head_dist.linear.bias']),
])
def test_where_timm_keeps_its_classifiers(name, head):
    init_default_scope('mmpretrain')
    with torch.device('meta'):
        model = MODELS.build(dict(type='TimmClassifier', model_name=name, num_classes=7))
    assert head_tensors(model, model.state_dict()) == head
