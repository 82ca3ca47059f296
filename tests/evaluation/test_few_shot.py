"""Few-shot accuracy: against plain loops and scikit-learn, and through the command line."""
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from sklearn.neighbors import NearestCentroid
from tiny_flow import NORM, runtime, student

from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.few_shot import CLASSIFIERS, few_shot_accuracy, sample_episodes

LABELS = np.repeat(np.arange(8), [30, 12, 25, 30, 40, 21, 3, 30])
DATA = os.environ.get('MMTINYVIT_DATA')


def clusters(noise: float, width: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, width))[LABELS] + noise * rng.normal(size=(len(LABELS), width))


# ---------------------------------------------------------------- episodes
def test_episodes():
    drawn = list(sample_episodes(LABELS, way=5, shot=3, query=9, episodes=40, seed=1))
    assert len(drawn) == 40
    seen = set()
    for support, query in drawn:
        assert support.shape == (5, 3) and query.shape == (5, 9)
        classes = LABELS[support[:, 0]]
        assert len(set(classes)) == 5  # five different classes, one to a row
        assert (LABELS[support] == classes[:, None]).all() and (LABELS[query] == classes[:, None]).all()
        rows = np.concatenate([support.ravel(), query.ravel()])
        assert len(set(rows)) == len(rows)  # nothing is learnt from and tested on
        seen |= set(classes)
    assert seen == {0, 1, 2, 3, 4, 5, 7}  # class 6 has three images
    again = list(sample_episodes(LABELS, 5, 3, 9, 40, seed=1))
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all()
               for a, b in zip(drawn, again, strict=True))
    other = next(sample_episodes(LABELS, 5, 3, 9, 1, seed=2))
    assert (other[0] != drawn[0][0]).any()


@pytest.mark.parametrize('settings, words', [
    (dict(way=8, shot=1, query=15), '6 of 8 classes have the 16 images .* .1 to learn, 15 to test., fewer than the 8'),
    (dict(way=1, shot=1, query=1), 'needs two classes'),
    (dict(way=5, shot=0, query=1), 'an image of each to learn'),
    (dict(classifier='oracle'), "no few-shot classifier 'oracle': choose one of centroid, logistic"),
])
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(UserError, match=words):
        few_shot_accuracy(clusters(1.), LABELS, **settings)


# ---------------------------------------------------------------- accuracy
def test_mean_and_interval_against_a_plain_loop():
    features = clusters(1.5)
    found = few_shot_accuracy(features, LABELS, way=4, shot=2, query=5, episodes=50, seed=3)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    accuracies = []
    for support, query in sample_episodes(LABELS, 4, 2, 5, 50, seed=3):
        right = 0
        for i in range(4):
            for row in query[i]:
                distances = [np.linalg.norm(unit[row] - unit[support[j]].mean(0)) for j in range(4)]
                right += int(np.argmin(distances)) == i
        accuracies.append(100 * right / 20)
    assert found.mean == pytest.approx(np.mean(accuracies))
    assert found.interval == pytest.approx(1.96 * np.std(accuracies, ddof=1) / 50**.5)
    assert found.num_classes == 7 and 30 < found.mean < 95


def test_the_centroid_is_scikit_learns():
    rng = np.random.default_rng(0)
    support, queries = rng.normal(size=(5, 3, 8)), rng.normal(size=(40, 8))
    theirs = NearestCentroid().fit(support.reshape(15, 8), np.repeat(np.arange(5), 3)).predict(queries)
    assert (CLASSIFIERS['centroid'](support, queries) == theirs).all()


@pytest.mark.parametrize('classifier', CLASSIFIERS)
def test_extremes(classifier):
    """Separate clusters are told apart; noise is guessed; more shots help in between."""
    def accuracy(features, shot=1, episodes=20):
        return few_shot_accuracy(features, LABELS, 5, shot, 5, episodes, classifier).mean

    assert accuracy(clusters(.01), episodes=5) == 100
    noise = np.random.default_rng(1).normal(size=(len(LABELS), 16))
    assert 14 < accuracy(noise, episodes=40) < 26
    assert accuracy(clusters(1.), shot=7) > accuracy(clusters(1.), shot=1) + 5


def test_zero_features_are_no_error():
    assert 0 <= few_shot_accuracy(np.zeros((len(LABELS), 4)), LABELS, 5, 1, 5, 3).mean <= 100


# ---------------------------------------------------------------- the command line
@pytest.fixture
def config(photos, tmp_path):
    """A student, and the photos to test it on."""
    init_default_scope('mmpretrain')
    model = student() | dict(type='ImageClassifier')
    pipeline = [dict(type='mmtinyvit.LoadImage'), dict(type='Resize', scale=(32, 32)), dict(type='PackInputs')]
    loader = dict(batch_size=5, num_workers=0, collate_fn=dict(type='default_collate'), dataset=dict(
        type='mmtinyvit.ImageFolder', data_root=str(photos), pipeline=pipeline))
    Config(runtime(tmp_path / 'work') | dict(
        model=model, data_preprocessor=NORM, test_dataloader=loader, test_cfg=dict(),
        test_evaluator=dict(type='Accuracy'))).dump(tmp_path / 'config.py')
    torch.manual_seed(0)
    torch.save(MODELS.build(model).state_dict(), tmp_path / 'weights.pth')
    return tmp_path / 'config.py'


def test_few_shot_tool(run_tool, config, photos, tmp_path):
    args = [config, tmp_path / 'weights.pth', '--way', 2, 3, '--shot', 1, 2, '--query', 2, '--episodes', 20]
    first = run_tool('few_shot', *args, '--out', tmp_path / 'out/first.json')
    second = run_tool('few_shot', *args, '--data', photos, '--out', tmp_path / 'second.json')
    assert first.status == second.status == 0, first.err + second.err
    assert '20 episodes, 14 images, 16 features' in first.out and '±' in first.out
    first, second = (json.loads((tmp_path / name).read_text()) for name in ('out/first.json', 'second.json'))
    assert first == second and len(first['results']) == 8
    assert all(0 <= row['mean'] <= 100 and row['num_classes'] == 3 for row in first['results'])


def test_few_shot_tool_errors(run_tool, config, tmp_path):
    weights = tmp_path / 'weights.pth'
    assert '0 of 3 classes have the 16 images' in run_tool('few_shot', config, weights, '--way', 2).sentence
    assert 'There is no checkpoint' in run_tool('few_shot', config, tmp_path / 'no.pth').sentence
    sentence = run_tool('few_shot', config, weights, '--data', tmp_path / 'nothing').sentence
    assert 'nothing, which does not exist' in sentence


@pytest.mark.realdata
def test_a_real_model_tells_real_classes_apart(run_tool, tmp_path):
    """MobileNetV2, which has seen these classes: 84 photos of five classes, one labelled photo of each."""
    if not DATA:
        pytest.skip('MMTINYVIT_DATA is not set')
    weights = next(Path(DATA, 'teacher_mobilenetv2').glob('*.pth'))
    config = Path(__file__).resolve().parents[2] / 'configs/imagenette/mobilenetv2.py'
    some = str(list(range(0, 1250, 15))).replace(' ', '')
    ended = run_tool('few_shot', config, weights, '--shot', 1, 5, '--query', 10, '--episodes', 20, '--work-dir',
                     tmp_path, '--out', tmp_path / 'out.json', '--cfg-options',
                     f'test_dataloader.dataset.indices={some}')
    assert ended.status == 0, ended.err
    found = {(row['shot'], row['classifier']): row['mean'] for row in json.loads(
        (tmp_path / 'out.json').read_text())['results']}
    assert found[1, 'centroid'] > 60 and found[5, 'centroid'] > found[1, 'centroid'] + 5
