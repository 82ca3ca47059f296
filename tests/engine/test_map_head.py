import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from tiny_flow import photo_dataset, runtime, student

from mmtinyvit.engine.hooks.start import map_rows
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import match_classes, synsets


def test_map_rows():
    rows = torch.arange(12.).reshape(4, 3)
    mapped = map_rows(rows, torch.tensor([2, -1, 0]))
    assert mapped.tolist() == [[6, 7, 8], [4.5, 5.5, 6.5], [0, 1, 2]]


def finetuning(photos, tmp_path, num_classes: int, state: dict, **hook) -> Runner:
    """One epoch at a rate of zero, so that the weights show what was loaded."""
    torch.save(dict(state_dict=state), tmp_path / 'start.pth')
    return Runner.from_cfg(Config(runtime(tmp_path / 'work') | dict(
        model=student(num_classes) | dict(type='ImageClassifier'), load_from=str(tmp_path / 'start.pth'),
        train_dataloader=dict(batch_size=7, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                              collate_fn=dict(type='default_collate'), dataset=photo_dataset(photos)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.)), train_cfg=dict(by_epoch=True, max_epochs=1),
        custom_hooks=[dict(type='mmtinyvit.EpochClockHook'), dict(type='mmtinyvit.MapHeadHook') | hook])))


def trained(num_classes: int) -> dict[str, torch.Tensor]:
    """The weights of a student whose head has random rows."""
    init_default_scope('mmpretrain')
    return MODELS.build(student(num_classes) | dict(type='ImageClassifier')).state_dict()


def assert_mapped(fc: torch.nn.Linear, state: dict, index: torch.Tensor) -> None:
    """Rows that match are equal, and the others are the mean row."""
    for ours, theirs in ((fc.weight, state['head.fc.weight']), (fc.bias, state['head.fc.bias'])):
        assert torch.equal(ours[index >= 0], theirs[index[index >= 0]])
        assert torch.allclose(ours[index < 0], theirs.mean(0), atol=1e-6)


@pytest.mark.parametrize(('found', 'wanted', 'matched', 'hook'), [
    (21841, 1000, 999, {}),
    (10450, 1000, 991, {}),
    (21841, 10450, 10450, {}),
    (21843, 11821, 11821, dict(source='fall11-google', target='in12k')),
    (1000, 10450, 991, dict(source=1000, target='imagenet-w21-p')),
])
def test_head_is_mapped_before_the_model_takes_it(photos, tmp_path, found, wanted, matched, hook):
    state = trained(found)
    runner = finetuning(photos, tmp_path, wanted, state, **hook)
    runner.train()
    index = torch.from_numpy(match_classes(found, wanted))
    assert_mapped(runner.model.head.fc, state, index)
    assert int((index >= 0).sum()) == matched
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert (f'Head of {found:,} classes mapped to {wanted:,}: {matched:,} rows matched by synset or name, '
            f'{wanted - matched:,} set to the mean row') in log
    assert f' and {matched - 20:,} more\n' in log
    if found == 21841 and wanted == 1000:
        assert '1 set to the mean row (1 class (n04399382)): n01440764: ' in log


OWN = ['fish', 'tabby', 'cart']


@pytest.mark.parametrize('index', [dict(fish='tench'), dict(fish='n01440764', cart='tabby cat')])
def test_classes_that_are_called_otherwise(photos, tmp_path, index):
    state = trained(1000)
    runner = finetuning(photos, tmp_path, 3, state, target=str(tmp_path / 'own.txt'), index=index)
    (tmp_path / 'own.txt').write_text('\n'.join(OWN))
    runner.train()
    rows = torch.tensor([0, 281, 281 if 'cart' in index else -1])
    assert_mapped(runner.model.head.fc, state, rows)
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    said = ': fish: 0 (tench, Tinca tinca), tabby: 281 (tabby, tabby cat)'
    assert (f' 0 set to the mean row{said}, cart: 281 (tabby, tabby cat)\n' if 'cart' in index else
            f' 1 set to the mean row (1 class (cart)){said}\n') in log


@pytest.mark.parametrize('index, says', [
    (dict(fihs='tench'), r'its index names fihs, and the model has 3 classes .*\(did you mean fish\?\): correct it'),
    (dict(fish='no such fish'), '1 class .no such fish. cannot be told among the former: correct it')])
def test_an_index_of_classes_that_are_not_there(photos, tmp_path, index, says):
    (tmp_path / 'own.txt').write_text('\n'.join(OWN))
    runner = finetuning(photos, tmp_path, 3, trained(1000), target=str(tmp_path / 'own.txt'), index=index)
    with pytest.raises(UserError, match=f'MapHeadHook cannot map .*{says}'):
        runner.train()


def test_a_layout_that_only_a_file_lists(photos, tmp_path):
    """As for winter21, which nothing here ships."""
    own = ['n00000001', *synsets('in1k')[::10]]
    (tmp_path / 'own.txt').write_text('\n'.join(own))
    state = trained(101)
    runner = finetuning(photos, tmp_path, 1000, state, source=str(tmp_path / 'own.txt'))
    runner.train()
    index = torch.full((1000, ), -1)
    index[::10] = torch.arange(1, 101)
    assert_mapped(runner.model.head.fc, state, index)


@pytest.mark.parametrize(('found', 'wanted', 'hook', 'reason'), [
    (19167, 1000, {}, 'No library here ships the 19,167 synsets of winter21: name a file'),
    (19168, 1000, {}, 'No label layout of ImageNet has 19168 classes'),
    (21841, 7, {}, 'No label layout of ImageNet has 7 classes'),
    (21843, 1000, dict(source='fall11'), 'its source fall11 has 21841 classes: name the layout of a head of 21843'),
    (21841, 1000, dict(target='in12k'), 'its target in12k has 11821 classes: name the layout of a head of 1000'),
])
def test_heads_that_cannot_be_mapped(photos, tmp_path, found, wanted, hook, reason):
    runner = finetuning(photos, tmp_path, wanted, trained(found), **hook)
    with pytest.raises(UserError, match=f'a head of {found} classes and the model one of {wanted}, which MapHeadHook '
                                        f'cannot map .*mmtinyvit.NewHeadHook .*: {reason}'):
        runner.train()


def test_a_head_that_fits_is_left_alone(photos, tmp_path):
    state = trained(1000)
    runner = finetuning(photos, tmp_path, 1000, state, source='fall11')  # as when the finetuned model is tested
    runner.train()
    assert torch.equal(runner.model.head.fc.weight, state['head.fc.weight'])
