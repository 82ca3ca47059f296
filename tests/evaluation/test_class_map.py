"""The class map against the published one, and the metric against a hand-made ranking."""
import hashlib

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmpretrain.evaluation import Accuracy
from mmpretrain.registry import METRICS
from mmpretrain.structures import DataSample

from mmtinyvit.errors import UserError
from mmtinyvit.evaluation import IN21K_LAYOUTS, MappedAccuracy, in21k_to_in1k_index, synsets

PUBLISHED = 'f17c9e35506a30d027145ca26b10397d7328890989acda1cc74cb4f7596ba4a1'  # SHA-256 of imagenet_1kto22k.txt


def test_map_is_the_published_one():
    text = ''.join(f'{index}\n' for index in in21k_to_in1k_index())
    assert hashlib.sha256(text.encode()).hexdigest() == PUBLISHED


@pytest.mark.parametrize(('num_classes', 'missing'), [(21841, 1), (21842, 0), (21843, 1), (11221, 9), (11821, 7)])
def test_every_layout_maps_synset_to_same_synset(num_classes, missing):
    index = in21k_to_in1k_index(num_classes)
    large, small = synsets(IN21K_LAYOUTS[num_classes]), synsets('imagenet-1k')
    assert index.shape == (1000,) and index.dtype == np.int64 and len(large) == num_classes
    assert [large[i] if i >= 0 else None for i in index] == [name if name in large else None for name in small]
    assert (index < 0).sum() == missing
    with pytest.raises(ValueError, match='read-only'):
        index[0] = 1


def test_unknown_layout():
    with pytest.raises(UserError, match=r'has 21000 classes: the known ones have 21841 \(imagenet-22k\), .*11221'):
        in21k_to_in1k_index(21000)


def samples(count: int, num_classes: int) -> list[DataSample]:
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(1000, (count,), generator=generator)
    scores = torch.rand(count, num_classes, generator=generator)
    index = torch.from_numpy(in21k_to_in1k_index().copy())
    for i in range(0, count, 2):  # half of them nearly right among the 1,000, whatever the other 20,000 say
        scores[i, index[labels[i]]] = scores[i, index.clamp(min=0)].topk(1 + i % 4).values[-1] + 1e-4
    return [DataSample().set_gt_label(label).set_pred_score(score) for label, score in zip(labels, scores, strict=True)]


def test_metric_equals_accuracy_on_the_mapped_columns():
    data = samples(60, 21841)
    evaluator = Evaluator([MappedAccuracy()])
    evaluator.process(data)
    result = evaluator.evaluate(60)
    assert set(result) == {'accuracy/top1', 'accuracy/top5'}
    columns = in21k_to_in1k_index()
    scores = torch.stack([sample.pred_score for sample in data])[:, columns]
    scores[:, columns < 0] = -1
    reference = Accuracy.calculate(scores, torch.cat([sample.gt_label for sample in data]), topk=(1, 5), thrs=(None,))
    assert result == {f'accuracy/top{k}': value[0].item() for k, value in zip((1, 5), reference, strict=True)}
    assert 20 < result['accuracy/top1'] < result['accuracy/top5']


def test_a_class_without_a_match_is_never_predicted():
    absent = int(np.flatnonzero(in21k_to_in1k_index() < 0)[0])
    metric = METRICS.build(dict(type='mmtinyvit.MappedAccuracy', topk=(1, 5)))
    score = torch.full((21841,), -3.)
    score[[0, -1]] = 9.  # where an index of -1, or one clamped to 0, would point
    metric.process({}, [DataSample().set_gt_label(absent).set_pred_score(score).to_dict()])
    assert metric.compute_metrics(metric.results) == {'top1': 0., 'top5': 0.}


def test_wrong_head():
    with pytest.raises(UserError, match='scores 1000 classes, but MappedAccuracy was told 21841: .*21843'):
        MappedAccuracy().process({}, [DataSample().set_gt_label(0).set_pred_score(torch.rand(1000)).to_dict()])
