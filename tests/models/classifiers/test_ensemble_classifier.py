"""Several teachers as one, against their dense mean, and against their stores combined while training."""
import copy

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from tiny_flow import CLASSES, NORM, contents, distilling, losses, saving, student, teacher

from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore, mix_logits

WEIGHTS = [0.3, 0.7]
TIMM = dict(type='TimmClassifier', model_name='test_efficientnet', num_classes=CLASSES, pretrained=False,
            data_preprocessor=dict(type='mmtinyvit.ReplayDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3,
                                   to_rgb=True, input_size=48))


@pytest.fixture(scope='module')
def members(tmp_path_factory, teacher_checkpoint):
    """Two teachers of other normalisation and input size, each with its checkpoint."""
    init_default_scope('mmpretrain')
    torch.manual_seed(1)
    model = MODELS.build(copy.deepcopy(TIMM))
    model.model.get_classifier().weight.data.mul_(30)
    path = tmp_path_factory.mktemp('timm') / 'timm.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return [teacher() | dict(data_preprocessor=dict(NORM), checkpoint=str(teacher_checkpoint)),
            TIMM | dict(checkpoint=str(path))]


def ensemble(members, **changes) -> dict:
    return dict(type='mmtinyvit.EnsembleClassifier', teachers=copy.deepcopy(members), weights=WEIGHTS) | changes


def build(members, **changes) -> torch.nn.Module:
    init_default_scope('mmpretrain')
    return MODELS.build(ensemble(members, **changes))


def dense_mean(members, pixels: torch.Tensor) -> torch.Tensor:
    """``(B, C)`` float64, each member built and asked by itself."""
    total = 0
    for weight, config in zip(WEIGHTS, copy.deepcopy(members), strict=True):
        checkpoint = config.pop('checkpoint')
        model = MODELS.build(config).eval()
        model.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'])
        total = total + weight * model(model.data_preprocessor(dict(inputs=pixels))['inputs']).double().softmax(1)
    return total


@torch.no_grad()
def test_the_mean_of_the_probabilities(members):
    model = build(members).eval()
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    inputs = model.data_preprocessor(dict(inputs=pixels))['inputs']
    assert torch.equal(inputs, pixels.float())
    logits = model(inputs, mode='tensor')
    expected = dense_mean(members, pixels)
    assert torch.allclose(logits.double().exp(), expected, atol=1e-6)
    assert torch.allclose(logits.exp().sum(1), torch.ones(4), atol=1e-5)
    samples = model(inputs, [DataSample() for _ in pixels], mode='predict')
    assert torch.equal(torch.cat([s.pred_label for s in samples]), expected.argmax(1))


def test_members_without_a_preprocessor_share_one(members):
    plain = copy.deepcopy(members)
    del plain[0]['data_preprocessor']
    model = build(plain, data_preprocessor=dict(NORM))
    assert model.teachers[0].data_preprocessor.mean.flatten().tolist() == pytest.approx(NORM['mean'])
    assert model.teachers[1].data_preprocessor.mean.flatten().tolist() == [127.5] * 3


def test_weights_from_init_cfg(members, teacher_checkpoint):
    config = copy.deepcopy(members)
    del config[0]['checkpoint']
    config[0]['init_cfg'] = dict(type='Pretrained', checkpoint=str(teacher_checkpoint))
    ours, theirs = build(config).state_dict(), build(members).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize('change, names', [
    (lambda config: config.update(weights=[1.]), '1 weights for 2 teachers'),
    (lambda config: config.update(weights=[1., 0.]), 'must be positive'),
    (lambda config: config.update(teachers=[]), 'has no teachers'),
    (lambda config: config['teachers'][0].update(checkpoint='nowhere.pth'), 'There is no checkpoint nowhere.pth'),
    (lambda config: config['teachers'][0].update(checkpoint=config['teachers'][1]['checkpoint']), 'does not fill'),
])
def test_what_is_refused(members, change, names):
    config = ensemble(members)
    change(config)
    init_default_scope('mmpretrain')
    with pytest.raises(UserError, match=names):
        MODELS.build(config)


def test_teachers_of_different_classes(members):
    other = copy.deepcopy(members[1])
    other.pop('checkpoint')
    model = build([members[0], other | dict(num_classes=11)])
    with pytest.raises(UserError, match='have 12 and 11 classes'):
        model(torch.zeros(1, 3, 32, 32))
    with pytest.raises(UserError, match='not trained'):
        model(torch.zeros(1, 3, 32, 32), mode='loss')


# ---------------------------------------------------------------- saved, and combined
@pytest.fixture(scope='module')
def stores(tmp_path_factory, photos, members):
    """A store of each teacher with all classes, and one of the ensemble; rounded to half precision."""
    folder = tmp_path_factory.mktemp('stores')
    for name, model, topk in (('a', members[0], CLASSES), ('b', members[1], CLASSES), ('a3', members[0], 3),
                              ('b5', members[1], 5), ('both', ensemble(members), CLASSES)):
        model = copy.deepcopy(model)
        checkpoint = model.pop('checkpoint', None)
        Runner.from_cfg(saving(photos, folder / name, folder / 'work', checkpoint, model=model, codec='exact',
                               topk=topk)).test()
    return folder


def dense(record, num_classes: int = CLASSES) -> np.ndarray:
    rest = record.tail_mass.astype(np.float64) / max(num_classes - record.index.shape[1], 1)
    target = np.repeat(rest[:, None], num_classes, 1)
    np.put_along_axis(target, record.index, np.exp(record.log_prob.astype(np.float64)), 1)
    return target


def test_saved_in_one_pass_is_combined_while_training(stores):
    a, b, both = (LogitStore(stores / name) for name in ('a', 'b', 'both'))
    prints = both.manifest.fingerprints['teacher']
    assert prints['name'] == 'ResNet_CIFAR + test_efficientnet' and len(prints['preprocessor']) == 2
    assert prints['preprocessor'][1]['input_size'] == 48 and prints['config']['weights'] == WEIGHTS
    assert 'checkpoint' not in str(prints)
    for view in (0, 1):
        records = [store.read_positions(view, np.arange(14)) for store in (a, b)]
        mixed = dense(mix_logits(records, WEIGHTS, CLASSES))
        assert np.abs(mixed - dense(both.read_positions(view, np.arange(14)))).max() < 1e-3  # half precision


def combined(photos, stores, work_dir, names=('a3', 'b5'), weights=WEIGHTS, **changes):
    cfg = distilling(photos, stores / names[0], work_dir, **changes)
    cfg.train_dataloader.dataset.pipeline[2] = dict(
        type='mmtinyvit.LoadTeacherLogits', store=[str(stores / name) for name in names], weights=weights)
    cfg.custom_hooks.append(dict(type='RecordLosses'))
    cfg.experiment_name = work_dir.name
    return cfg


def test_training_from_two_stores(tmp_path, photos, stores):
    """The first loss is the cross-entropy against the float64 mean of the two recovered targets."""
    cfg = combined(photos, stores, tmp_path / 'work', batch_size=14, sampler=dict(type='DefaultSampler', shuffle=False),
                   hook=dict(topk=[3, 5]))
    first = MODELS.build(student() | dict(data_preprocessor=dict(NORM))).train()
    torch.save(dict(state_dict=first.state_dict()), tmp_path / 'first.pth')
    cfg.load_from = str(tmp_path / 'first.pth')
    runner = Runner.from_cfg(cfg)
    runner.train()
    target = sum(weight * dense(LogitStore(stores / name).read_positions(0, np.arange(14)))
                 for weight, name in zip(WEIGHTS, ('a3', 'b5'), strict=True))
    images = torch.stack([runner.train_dataloader.dataset.pipeline(
        runner.train_dataloader.dataset.get_data_info(i) | dict(view=0))['inputs'] for i in range(14)])
    logits = first(first.data_preprocessor(dict(inputs=images))['inputs']).double()
    expected = -(torch.tensor(target) * logits.log_softmax(1)).sum(1).mean().item()
    assert losses(tmp_path / 'work')[0] == pytest.approx(expected, rel=1e-5)
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert log.count('Teacher store ') == 2 and 'weight 0.3;' in log and 'weight 0.7;' in log

    saved = torch.load(tmp_path / 'work' / 'epoch_2.pth', weights_only=False)['teacher_store']
    assert str(stores / 'a3') in saved['path'] and str(stores / 'b5') in saved['path']
    cfg = combined(photos, stores, tmp_path / 'work', epochs=3, weights=[.5, .5])
    cfg.resume = True
    with pytest.raises(UserError, match='which is another one'):
        Runner.from_cfg(cfg).train()


def test_views_of_two_stores(tmp_path, photos, stores, members):
    """Those that both have."""
    cfg = saving(photos, tmp_path / 'c', tmp_path / 'save', members[1]['checkpoint'], model=TIMM, views=(1, 3))
    Runner.from_cfg(cfg).test()
    cfg = combined(photos, tmp_path, tmp_path / 'work', names=(stores / 'a3', 'c'), epochs=1)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.train_dataloader.dataset.pipeline.transforms[1].clock.view == 1
    with pytest.raises(UserError, match='does not have views 2 completely'):
        Runner.from_cfg(combined(photos, tmp_path, tmp_path / 'work', names=(stores / 'a3', 'c'),
                                 hook=dict(views=[1, 2]))).train()


@pytest.mark.parametrize('hook, names', [(dict(topk=[3, 4]), 'b5 has the top 5 .* wants topk=4'),
                                         (dict(topk=[3]), '1 values for 2 stores'),
                                         (dict(teacher=['', '00']), 'b5 comes from the teacher')])
def test_each_store_is_checked(tmp_path, photos, stores, hook, names):
    with pytest.raises(UserError, match=names):
        Runner.from_cfg(combined(photos, stores, tmp_path, hook=hook)).train()


def test_checking_an_ensembles_store(tmp_path, photos, stores, members, run_tool):
    saving(photos, stores / 'both', tmp_path / 'work', model=ensemble(members)).dump(tmp_path / 'save.py')
    before = contents(stores / 'both')
    ended = run_tool('logit_store', 'verify', stores / 'both', '--teacher', tmp_path / 'save.py', '--records', 12)
    assert ended.status == 0, ended.err
    assert contents(stores / 'both') == before
