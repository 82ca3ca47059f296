"""plan: its divergences against dense ones, its bytes against the files that saving writes, and how many views."""
import json
import shutil

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from tiny_flow import CLASSES, TOPK, saving

from mmtinyvit.apis.store_plan import free_bytes, recommend, recommend_views, weigh_codecs
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore


@pytest.fixture(scope='module')
def log_prob():
    """What a teacher of 30 classes said about 50 images."""
    return (3 * torch.randn(50, 30, generator=torch.Generator().manual_seed(0))).log_softmax(1).numpy()


@pytest.fixture(scope='module')
def weighed(log_prob):
    return weigh_codecs(log_prob)


def test_divergence_is_that_of_dense_targets(log_prob, weighed):
    for row in weighed:
        p = np.exp(log_prob.astype(np.float64))
        p /= p.sum(1, keepdims=True)
        order = np.argsort(-p, axis=1)
        q = np.empty_like(p)
        k = row['topk']
        kept = np.take_along_axis(p, order, 1)[:, :k]
        np.put_along_axis(q, order[:, :k], kept, 1)
        if k < 30:
            np.put_along_axis(q, order[:, k:], np.repeat((1 - kept.sum(1, keepdims=True)) / (30 - k), 30 - k, 1), 1)
        cut = (p * np.log(p / q)).sum(1).mean()
        assert row['mass'] == pytest.approx(kept.sum(1).mean(), rel=1e-5)
        assert row['mean_kl'] - row['codec_kl'] == pytest.approx(cut, rel=1e-3, abs=2e-6)
        assert -1e-5 < row['codec_kl'] < 2e-3 and row['max_kl'] >= row['mean_kl']
    assert {row['topk'] for row in weighed} == {1, 2, 5, 10, 20, 30}


def test_recommends_the_smallest_that_is_good_enough(weighed):
    best = recommend(weighed, 0.05)
    compact = [row for row in weighed if row['codec'] == 'compact']
    assert best['mean_kl'] <= 0.05 and best['codec'] == 'compact'
    assert all(row['mean_kl'] > 0.05 for row in compact if row['bytes'] < best['bytes'])
    assert recommend(weighed, 1e-12)['mean_kl'] == min(row['mean_kl'] for row in compact)


def test_plan_foretells_the_store(run_tool, photos, teacher_checkpoint, saved_store, tmp_path):
    path = tmp_path / 'teacher.py'
    saving(photos, tmp_path / 'store', tmp_path / 'work').dump(path)
    ended = run_tool('logit_store', 'plan', path, teacher_checkpoint, '--images', 9, '--json', '--views', 2)
    said = json.loads(ended.out)
    assert (said['images'], said['classes'], said['samples'], said['views']) == (9, CLASSES, 14, 2)
    assert said['hours'] == pytest.approx(2 * 14 / said['per_second'] / 3600) and said['per_second'] > 0
    store = LogitStore(saved_store)
    row = next(row for row in said['rows'] if (row['topk'], row['codec']) == (TOPK, 'compact'))
    assert row['bytes'] == store.record_bytes
    assert row['total_bytes'] == sum(path.stat().st_size for path in saved_store.rglob('*.logits'))
    foretold = next(row for row in said['rows'] if (row['topk'], row['codec']) == (TOPK, 'smallest'))
    cfg = saving(photos, tmp_path / 'small', tmp_path / 'work', teacher_checkpoint, codec='smallest')
    Runner.from_cfg(cfg).test()
    size = sum(path.stat().st_size for path in (tmp_path / 'small').rglob('*.logits'))
    assert foretold['total_bytes'] == pytest.approx(size, rel=0.05)
    positions = np.unique(np.linspace(0, 13, 9).round().astype(int))
    record = store.read_positions(0, positions)
    assert row['mass'] == pytest.approx(np.exp(record.log_prob).sum(1).mean(), abs=2e-3)
    assert said['recommended'] in said['rows'] and not (tmp_path / 'store').exists()
    assert 'must be positive' in run_tool('logit_store', 'plan', path, teacher_checkpoint, '--views', 0).sentence
    assert 'no checkpoint' in run_tool('logit_store', 'plan', path, tmp_path / 'none.pth').sentence


# ---------------------------------------------------------------- how many views
@pytest.mark.parametrize('room, hours, views, limit', [
    (9000, None, 90, 'wanted'), (8999, None, 89, 'room'), (100, None, 1, 'room'), (99, None, 0, 'room'),
    (9000, 4.5, 45, 'time'), (1000, 4.5, 10, 'room'), (10**9, 100, 90, 'wanted')])
def test_as_many_as_there_is_room_and_time_for(room, hours, views, limit):
    advice = recommend_views(90, 9000, 9., room, hours)
    assert advice == dict(views=views, bytes=100 * views, hours=pytest.approx(views / 10), limit=limit)


@pytest.mark.parametrize('room, hours', [(0, None), (1, 0), (1, -1), (1, float('nan'))])
def test_limits_that_are_none(room, hours):
    with pytest.raises(UserError, match='--disk and --hours must be positive'):
        recommend_views(90, 9000, 9., room, hours)


def test_what_is_free(tmp_path):
    assert free_bytes(tmp_path / 'not' / 'there') == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    with pytest.raises(UserError, match='How much room there is at s3://b/s is not known: say it with --disk'):
        free_bytes('s3://b/s')


def test_from_the_command_line(run_tool, photos, teacher_checkpoint, tmp_path):
    saving(photos, tmp_path / 'store', tmp_path / 'work').dump(tmp_path / 'teacher.py')
    plan = ('plan', tmp_path / 'teacher.py', teacher_checkpoint, '--images', 3, '--views', 4)
    said = json.loads(run_tool('logit_store', *plan, '--json').out)
    assert said['recommended_views']['views'] == 4 and said['recommended_views']['limit'] == 'wanted'
    assert said['recommended_views']['bytes'] == said['recommended']['total_bytes']
    half = str(said['recommended']['total_bytes'] / 2 / 2**30)
    ended = run_tool('logit_store', *plan, '--disk', half)
    assert 'recommended' in ended.out and 'recommended views' in ended.out and '2 (what 0.0 GiB hold)' in ended.out
    assert 'must be positive' in run_tool('logit_store', *plan, '--hours', 0).sentence
