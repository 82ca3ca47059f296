"""What finetuning and probing start from: all weights or none, a mapped head or a new one."""
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from tiny_flow import photo_dataset, runtime, student

from mmtinyvit.engine.hooks import RequireWeightsHook
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import match_classes
from mmtinyvit.models.checkpoint_keys import convert_state_dict


def model(num_classes: int = 1000, **backbone) -> dict:
    cfg = student(num_classes) | dict(type='ImageClassifier')
    cfg['backbone'].update(backbone)
    return cfg


@pytest.fixture
def distilled(tmp_path):
    """A checkpoint with 21,841 classes, of random but known weights."""
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    state = MODELS.build(model(21841)).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'distilled.pth')
    return state


def runner(photos, tmp_path, hooks: list[dict], start: str | None = 'distilled.pth', cfg: dict | None = None,
           **changes) -> Runner:
    """One epoch at a rate of zero, so that the weights show what was loaded."""
    loader = dict(batch_size=7, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                  collate_fn=dict(type='default_collate'), dataset=photo_dataset(photos))
    return Runner.from_cfg(Config(runtime(tmp_path / 'work') | dict(
        model=cfg or model(), load_from=str(tmp_path / start) if start else None, train_dataloader=loader,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.)), train_cfg=dict(by_epoch=True, max_epochs=1),
        custom_hooks=[dict(type='mmtinyvit.EpochClockHook'), *hooks]) | changes))


REQUIRE = dict(type='mmtinyvit.RequireWeightsHook')
MAP, NEW = dict(type='mmtinyvit.MapHeadHook'), dict(type='mmtinyvit.NewHeadHook')


def assert_backbone(found: torch.nn.Module, state: dict) -> None:
    for name, value in found.named_parameters():
        if name.startswith('backbone.'):
            assert torch.equal(value, state[name]), name


@pytest.mark.parametrize('layout', ['ours', 'Cream', 'timm'])
def test_finetuning_starts_from_every_layout(photos, tmp_path, distilled, layout):
    if layout != 'ours':
        renamed = convert_state_dict(distilled, layout)
        torch.save(dict(model=renamed) if layout == 'Cream' else renamed, tmp_path / 'distilled.pth')
    started = runner(photos, tmp_path, [MAP, REQUIRE])
    started.train()
    assert_backbone(started.model, distilled)
    index = torch.from_numpy(match_classes())
    assert torch.equal(started.model.head.fc.weight[index >= 0], distilled['head.fc.weight'][index[index >= 0]])
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert 'Head of 21,841 classes mapped to 1,000: 999 rows matched by synset or name, 1 set to the mean row' in log
    assert 'tensors of ImageClassifier filled from ' in log


def test_a_probe_starts_with_a_new_head(photos, tmp_path, distilled):
    torch.manual_seed(5)
    started = runner(photos, tmp_path, [NEW, REQUIRE | dict(fresh=['head.'])], cfg=model(3, frozen_stages=4),
                     optim_wrapper=dict(optimizer=dict(type='SGD', lr=.1)))
    started.train()
    assert_backbone(started.model, distilled)
    for name, value in started.model.state_dict().items():  # statistics too
        if name.startswith('backbone.'):
            assert torch.equal(value, distilled[name]), name
    assert started.model.head.fc.weight.shape == (3, 16)
    assert "head of 21,841 classes is left out" in next((tmp_path / 'work').glob('*/*.log')).read_text()

    # the head that was trained is kept on resuming and in a test
    head = started.model.head.fc.weight.clone()
    resumed = runner(photos, tmp_path, [NEW, REQUIRE | dict(fresh=['head.'])], None, cfg=model(3, frozen_stages=4),
                     resume=True)
    resumed.train()
    assert torch.equal(resumed.model.head.fc.weight, head)
    tested = runner(photos, tmp_path, [NEW, REQUIRE | dict(fresh=['head.'])], 'work/epoch_1.pth',
                    cfg=model(3, frozen_stages=4))
    tested.load_or_resume()
    assert torch.equal(tested.model.head.fc.weight, head)


def test_no_weights(photos, tmp_path):
    with pytest.raises(UserError, match='starts from trained weights: name them with --cfg-options load_from='):
        runner(photos, tmp_path, [REQUIRE], None).train()
    with pytest.raises(UserError, match='starts from trained weights'):  # nothing to resume from either
        runner(photos, tmp_path, [REQUIRE], None, resume=True).train()


def test_weights_of_another_network(photos, tmp_path, distilled):
    arch = student()['backbone']['arch'] | dict(depths=(1, 1, 2, 1))
    with pytest.raises(UserError, match=r'distilled.pth does not fill ImageClassifier: .* 18 are missing'):
        runner(photos, tmp_path, [MAP, REQUIRE], cfg=model(arch=arch)).train()


def test_what_only_pretraining_needs(photos, tmp_path, distilled):
    torch.save(distilled | {'losses.0.weight': torch.zeros(1), 'extra': torch.zeros(1)}, tmp_path / 'distilled.pth')
    with pytest.raises(UserError, match=r'2 are unknown \(losses.0.weight, extra\)'):
        runner(photos, tmp_path, [MAP, REQUIRE]).train()
    with pytest.raises(UserError, match=r'1 are unknown \(extra\)'):
        runner(photos, tmp_path, [MAP, REQUIRE | dict(unused=['losses.'])]).train()
    runner(photos, tmp_path, [MAP, REQUIRE | dict(unused=['losses.', 'extra'])]).train()


def test_a_head_that_was_forgotten(photos, tmp_path, distilled):
    with pytest.raises(UserError, match=r'head.fc.weight is \[21841, 16\] instead of \[7, 16\]'):
        runner(photos, tmp_path, [REQUIRE], cfg=model(7)).train()
    with pytest.raises(UserError, match='head of 21841 classes and the model one of 7, .* mmtinyvit.NewHeadHook'):
        runner(photos, tmp_path, [MAP, REQUIRE], cfg=model(7)).train()
    # a test needs the head, even where training would start with a new one
    with pytest.raises(UserError, match='does not fill'):
        runner(photos, tmp_path, [NEW, REQUIRE | dict(fresh=['head.'])], cfg=model(7)).load_or_resume()


@pytest.mark.parametrize('model, named', [
    (dict(init_cfg=dict(type='Pretrained')), True), (dict(backbone=dict(checkpoint_path='net.pth')), True),
    (dict(type='mmtinyvit.DistillTimmClassifier', pretrained=True), True), (dict(pretrained=False), False),
    (dict(teacher=dict(model=dict(pretrained=True))), False)])
def test_where_weights_are_named(model, named):
    """By any library's setting; a teacher's are not the student's."""
    started = partial(RequireWeightsHook().before_train, SimpleNamespace(cfg=dict(model=model)))
    if named:
        started()
        return
    with pytest.raises(UserError, match='This recipe starts from trained weights'):
        started()
