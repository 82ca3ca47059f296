"""Accuracies of mapped heads and against ReaL labels: by hand, against mmpretrain, timm, and in a real test run."""
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmpretrain.evaluation import Accuracy
from mmpretrain.registry import METRICS
from mmpretrain.structures import DataSample
from PIL import Image
from processes import in_ranks, measure
from timm.data import RealLabelsImagenet
from tiny_flow import runtime, student

from mmtinyvit.errors import UserError
from mmtinyvit.evaluation import MappedAccuracy, RealAccuracy, match_classes, real_labels, synsets
from mmtinyvit.paths import config_root


# ---------------------------------------------------------------- mapped heads
def samples(count: int, source: str, target: str = 'in1k') -> list[DataSample]:
    """Random scores, and every second one nearly right among the mapped classes, whatever the others say."""
    generator = torch.Generator().manual_seed(3)
    index = torch.from_numpy(match_classes(source, target))
    labels = torch.randint(len(index), (count, ), generator=generator)
    scores = torch.rand(count, len(synsets(source)), generator=generator)
    for i in range(0, count, 2):
        scores[i, index[labels[i]]] = scores[i, index.clamp(min=0)].topk(1 + i % 4).values[-1] + 1e-4
    return [DataSample().set_gt_label(label).set_pred_score(score) for label, score in zip(labels, scores, strict=True)]


@pytest.mark.parametrize(('source', 'target', 'arguments'), [
    ('fall11', 'in1k', {}), ('fall11', 'in1k', dict(num_classes='imagenet-22k')),
    ('winter21-p', 'in1k', dict(num_classes=10450)), ('fall11', 'winter21-p', dict(target='winter21-p')),
    ('fall11-p', 'in12k', dict(num_classes='fall11-p', target=11821))])
def test_metric_equals_accuracy_on_the_mapped_columns(source, target, arguments):
    data = samples(60, source, target)
    evaluator = Evaluator([MappedAccuracy(**arguments)])
    evaluator.process(data)
    result = evaluator.evaluate(60)
    columns = match_classes(source, target)
    scores = torch.stack([sample.pred_score for sample in data])[:, columns]
    scores[:, columns < 0] = -1
    reference = Accuracy.calculate(scores, torch.cat([sample.gt_label for sample in data]), topk=(1, 5), thrs=(None, ))
    assert result == pytest.approx(
        {f'accuracy/top{k}': value[0].item() for k, value in zip((1, 5), reference, strict=True)})
    assert 20 < result['accuracy/top1'] < result['accuracy/top5']


def test_a_class_without_a_match_is_never_predicted():
    absent = int(np.flatnonzero(match_classes() < 0)[0])
    metric = METRICS.build(dict(type='mmtinyvit.MappedAccuracy', topk=(1, 1000)))
    score = torch.full((21841, ), -3.)
    score[[0, -1]] = 9.  # where an index of -1, or one clamped to 0, would point
    metric.process({}, [DataSample().set_gt_label(absent).set_pred_score(score).to_dict()])
    assert metric.evaluate(1) == {'accuracy/top1': 0., 'accuracy/top1000': 0.}


def test_an_index_of_ones_own():
    metric = MappedAccuracy(num_classes=6, index=[5, 0, -1], topk=1)
    metric.process({}, [DataSample().set_gt_label(label).set_pred_score(torch.tensor([2., 9, 9, 9, 9, 3])).to_dict()
                        for label in (0, 1, 2)])
    assert metric.evaluate(3) == {'accuracy/top1': pytest.approx(100 / 3)}


def test_wrong_heads():
    with pytest.raises(UserError, match='scores 1000 classes, but MappedAccuracy was told 21841: .*winter21-p'):
        MappedAccuracy().process({}, [DataSample().set_gt_label(0).set_pred_score(torch.rand(1000)).to_dict()])
    with pytest.raises(UserError, match='MappedAccuracy compares with labels, and an image of the test has none'):
        MappedAccuracy().process({}, [DataSample().set_pred_score(torch.rand(21841)).to_dict()])
    with pytest.raises(UserError, match='No label layout of ImageNet has 100 classes'):
        MappedAccuracy(num_classes=100)
    with pytest.raises(UserError, match=r'cannot tell the top \(1, 5\) of 3 classes'):
        MappedAccuracy(num_classes=6, index=[5, 0, -1])


def test_classes_of_the_data_by_name():
    """Of a dataset with folders of its own; without names, those of ImageNet-1K."""
    metric = MappedAccuracy('in1k', index=dict(lab='n02099712'), topk=1)
    metric.dataset_meta = dict(classes=('tench', 'n02102040', 'lab'))
    scores = torch.zeros(2, 1000)
    scores[:, 5], scores[0, 217], scores[1, 208] = 1., .5, .5
    metric.process({}, [DataSample().set_pred_score(score).set_gt_label(label).to_dict()
                        for score, label in zip(scores, (1, 2), strict=True)])
    assert metric.evaluate(2) == {'accuracy/top1': 100.}
    with pytest.raises(UserError, match=r'a head of 1,000 classes .* 1 class \(my_cat\) cannot be told .*with index'):
        metric.dataset_meta = dict(classes=('tench', 'my_cat'))
    with pytest.raises(UserError, match='index of MappedAccuracy is for 3 classes, and the images are of 2 classes'):
        MappedAccuracy(6, index=[5, 0, -1], topk=1).dataset_meta = dict(classes=('a', 'b'))
    with pytest.raises(UserError, match='means 1,000 classes .*, and the checkpoint has 2 classes'):
        metric.check_head(('tench', 'goldfish'), 'the checkpoint')
    real = RealAccuracy()
    real.dataset_meta = dict(classes=('any', 'folders'))  # its labels are not theirs


# ---------------------------------------------------------------- ReaL labels
def name_of(number: int) -> str:
    return f'ILSVRC2012_val_{number:08d}.JPEG'


def judged(metric: RealAccuracy, numbers: list[int], scores: torch.Tensor, folder: str = 'data/val/n01/') -> dict:
    metric.process({}, [DataSample(metainfo=dict(img_path=folder + name_of(number))).set_pred_score(score).to_dict()
                        for number, score in zip(numbers, scores, strict=True)])
    return metric.evaluate(len(numbers))


def test_equals_timm_on_random_predictions():
    generator = np.random.default_rng(0)
    numbers = generator.permutation(50_000)[:3000] + 1
    rest = sorted(set(range(1, 50_001)) - set(numbers.tolist()))
    scores = torch.from_numpy(generator.random((3000, 1000)))
    for i, number in enumerate(numbers):  # a right class among the first ten or so
        if labels := real_labels()[number - 1]:
            scores[i, generator.choice(labels)] = scores[i].topk(1 + i % 10).values[-1] + 1e-9
    theirs = RealLabelsImagenet([f'val/{name_of(number)}' for number in [*numbers, *rest]], topk=(1, 3, 5))
    theirs.add_result(scores)
    assert sum(not real_labels()[number - 1] for number in numbers) > 100  # some have no label at all
    ours = judged(RealAccuracy(topk=(1, 3, 5)), numbers.tolist(), scores)
    assert ours == pytest.approx({f'real/top{k}': value for k, value in theirs.get_accuracy().items()}, abs=1e-9)
    assert 5 < ours['real/top1'] < ours['real/top3'] < ours['real/top5'] < 95


def test_any_of_an_images_labels_is_right_and_images_without_are_left_out():
    assert len(real_labels()) == 50_000
    assert real_labels()[:3] == ((), (970, 795), (230, 231))
    scores = torch.zeros(4, 1000)
    scores[0, 5] = scores[1, 795] = scores[2, 231] = scores[3, 5] = 1.
    scores[2, 230] = .5
    assert judged(RealAccuracy(topk=1), [1, 2, 3, 3], scores) == {'real/top1': pytest.approx(200 / 3)}
    with pytest.raises(UserError, match='None of the 1 images has a label that RealAccuracy'):
        judged(RealAccuracy(), [1], scores[:1])


def test_a_large_head_is_mapped():
    scores = torch.zeros(1, 21841)
    scores[0, match_classes()[795]] = .5
    scores[0, 0] = 1.
    assert judged(RealAccuracy('fall11'), [2], scores) == {'real/top1': 100., 'real/top5': 100.}


@pytest.mark.parametrize('path', ['a/ILSVRC2012_val_00000002.JPEG', 'ILSVRC2012_val_00000002_n01440764.JPEG',
                                  's3://bucket/val-000.tar/n01440764_ILSVRC2012_val_00000002.jpg'])
def test_names_in_other_layouts(path):
    metric = RealAccuracy(topk=1)
    score = torch.zeros(1000)
    score[970] = 1.
    metric.process({}, [DataSample(metainfo=dict(img_path=path)).set_pred_score(score).to_dict()])
    assert metric.evaluate(1) == {'real/top1': 100.}


@pytest.mark.parametrize('meta', [dict(img_path='val/n01/photo.JPEG'), {}, dict(img_path=name_of(0)),
                                  dict(img_path=name_of(50_001))])
def test_other_images_are_refused(meta):
    with pytest.raises(UserError, match=f'has no ReaL label: RealAccuracy takes .* to {name_of(50_000)}'):
        RealAccuracy().process({}, [DataSample(metainfo=meta).set_pred_score(torch.rand(1000)).to_dict()])


@pytest.fixture
def testing(tmp_path) -> Config:
    """The config of a test with both accuracies, on nine images, the first of which has no ReaL label."""
    rng = np.random.default_rng(1)
    for number in [*range(1, 9), 50_000]:
        path = tmp_path / 'val' / synsets('in1k')[number % 2] / name_of(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    torch.manual_seed(0)
    model = student(1000) | dict(type='ImageClassifier')
    state = MODELS.build(model).state_dict()
    state['head.fc.bias'][[970, 230]] += torch.tensor([10., 9.])  # right for the second image, and for the third
    meta = dict(dataset_meta=dict(classes=synsets('in1k')))
    torch.save(dict(state_dict=state, meta=meta), tmp_path / 'model.pth')
    pipeline = [dict(type='mmtinyvit.LoadImage'), dict(type='Resize', scale=(32, 32)), dict(type='PackInputs')]
    return Config(runtime(tmp_path / 'work') | dict(
        model=model, load_from=str(tmp_path / 'model.pth'), test_cfg=dict(),
        test_evaluator=Config.fromfile(config_root() / '_base_/imagenet_tests.py').real_labels,
        test_dataloader=dict(
            batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
            dataset=dict(type='mmtinyvit.ImageFolder', data_root=str(tmp_path / 'val'), pipeline=pipeline))))


@pytest.mark.parametrize('workers', [0, 2])
def test_both_accuracies_in_one_test(workers, testing):
    testing.test_dataloader.num_workers = workers
    runner = Runner.from_cfg(testing)
    result = runner.test()
    dataset = runner.test_dataloader.dataset
    theirs = RealLabelsImagenet([dataset.get_data_info(i)['img_path'] for i in range(9)] + [name_of(9)] * 49_991)
    right = 0
    with torch.no_grad():
        for i in range(9):
            packed = runner.model.data_preprocessor(dict(inputs=dataset[i]['inputs'][None]))
            scores = runner.model(packed['inputs'])
            theirs.add_result(scores)
            right += int(scores.argmax() == dataset.get_data_info(i)['gt_label'])
    assert result['real/top1'] == pytest.approx(theirs.get_accuracy(1))
    assert result['real/top5'] == pytest.approx(theirs.get_accuracy(5))
    assert 0 < result['real/top1'] < result['real/top5']
    assert result['accuracy/top1'] == pytest.approx(100 * right / 9)


def test_two_processes_measure_the_same(testing, tmp_path):
    """Nine images are padded to ten, and the one without a label must not make room for the tenth."""
    expected = Runner.from_cfg(testing).test()
    in_ranks(measure, testing, tmp_path / 'metrics.json')
    assert json.loads((tmp_path / 'metrics.json').read_text()) == pytest.approx(expected)
