"""plan: its divergences against dense ones, its bytes against the files that saving writes."""
import json

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from tiny_flow import CLASSES, TOPK, saving

from mmtinyvit.apis.store_plan import recommend, weigh_codecs
from mmtinyvit.store import LogitStore


def outputs(num=50, num_classes=30, scale=3.0):
    logits = torch.randn(num, num_classes, generator=torch.Generator().manual_seed(0)) * scale
    return logits.log_softmax(1).numpy()


def test_divergence_is_that_of_dense_targets():
    log_prob = outputs()
    for row in weigh_codecs(log_prob):
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
    assert {row['topk'] for row in weigh_codecs(log_prob)} == {1, 2, 5, 10, 20, 30}


def test_recommends_the_smallest_that_is_good_enough():
    rows = weigh_codecs(outputs())
    best = recommend(rows, 0.05)
    compact = [row for row in rows if row['codec'] == 'compact']
    assert best['mean_kl'] <= 0.05 and best['codec'] == 'compact'
    assert all(row['mean_kl'] > 0.05 for row in compact if row['bytes'] < best['bytes'])
    assert recommend(rows, 1e-12)['mean_kl'] == min(row['mean_kl'] for row in compact)


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
    ended = run_tool('logit_store', 'plan', path, teacher_checkpoint, '--images', 4)
    assert ended.status == 0 and 'recommended' in ended.out
    assert 'must be positive' in run_tool('logit_store', 'plan', path, teacher_checkpoint, '--views', 0).sentence
    assert 'no checkpoint' in run_tool('logit_store', 'plan', path, tmp_path / 'none.pth').sentence
