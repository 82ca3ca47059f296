"""clean, against a plain loop over samples and views, and the dataset that takes its list."""
import json

import numpy as np
import pytest
from mmengine.registry import DATASETS
from tiny_flow import photo_dataset, saving

from mmtinyvit.apis.store_cleaning import keep_samples, measure_support
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore, StoreError

CLASS_OF = {'class_0': 4, 'class_1': 0, 'class_2': 11}
TOP = 4
LABELS = ('--label-index', *CLASS_OF.values())  # of the teacher's twelve classes


@pytest.fixture
def config(photos, saved_store, tmp_path):
    path = tmp_path / 'teacher.py'
    saving(photos, saved_store, tmp_path / 'work').dump(path)
    return path


@pytest.fixture
def plain(saved_store):
    """By key: whether the label is among the top 4, in each view; and its probability."""
    store, found = LogitStore(saved_store), {}
    for i in range(14):
        key = store.key(i)
        label = CLASS_OF[key.split('/')[0]]
        for view in (0, 1):
            record = store.read_positions(view, [i])
            said = dict(zip(record.index[0].tolist(), np.exp(record.log_prob[0]).tolist(), strict=True))
            among = label in sorted(said, key=said.get, reverse=True)[:TOP]
            prob = said.get(label, record.tail_mass[0] / 7)
            found.setdefault(key, []).append((among, prob))
    return found


@pytest.mark.parametrize('rule, enough', [('any', 1), ('most', 1), ('all', 2)])
def test_a_rule(run_tool, saved_store, config, plain, tmp_path, rule, enough):
    out = tmp_path / 'kept.txt'
    said = json.loads(run_tool('logit_store', 'clean', saved_store, '--config', config, *LABELS, '--top', TOP, '--rule',
                               rule, '--out', out, '--json').out)
    expected = [key for key, views in plain.items() if sum(among for among, _ in views) >= enough]
    assert out.read_text().splitlines() == expected and 0 < len(expected) < 14
    assert (said['kept'], said['left_out']) == (len(expected), 14 - len(expected))
    assert sum(row['lost'] for row in said['labels']) == said['left_out']


def test_a_share(run_tool, saved_store, config, plain, tmp_path):
    out = tmp_path / 'kept.txt'
    ended = run_tool('logit_store', 'clean', saved_store, '--config', config, *LABELS, '--top', TOP, '--share', 0.5,
                     '--out', out)
    assert ended.status == 0 and '7 of 14 (50.00%)' in ended.out
    score = {key: tuple(np.sum(views, axis=0)) for key, views in plain.items()}
    best = sorted(sorted(score, key=score.get, reverse=True)[:7])
    assert sorted(out.read_text().splitlines()) == best


def test_a_dataset_takes_the_list(photos, saved_store, tmp_path):
    kept = tmp_path / 'kept.txt'
    keys = [LogitStore(saved_store).key(i) for i in (1, 4, 8)]
    kept.write_text('\n'.join([*reversed(keys), 'another/one.png']))
    dataset = DATASETS.build(photo_dataset(photos) | dict(keep=str(kept)))
    assert [dataset.get_data_info(i)['sample_key'] for i in range(len(dataset))] == keys
    assert len(DATASETS.build(photo_dataset(photos) | dict(keep=str(kept), share=0.34))) == 1


@pytest.mark.parametrize('text, said', [
    (None, 'kept.txt, the list of samples to keep, cannot be read .No such file'),
    (b'\xff\xfe', 'cannot be read .it is no text'),
    (b'other/one.png\n', 'None of the 14 samples below .* is named in .*kept.txt')])
def test_lists_that_are_none(photos, tmp_path, text, said):
    if text is not None:
        (tmp_path / 'kept.txt').write_bytes(text)
    with pytest.raises(UserError, match=said):
        DATASETS.build(photo_dataset(photos) | dict(keep=str(tmp_path / 'kept.txt')))


def test_settings_that_make_no_sense(run_tool, photos, saved_store, config, tmp_path):
    store, dataset = LogitStore(saved_store), DATASETS.build(photo_dataset(photos))
    with pytest.raises(StoreError, match='top 5 classes of each view, so topk=6'):
        measure_support(store, dataset, [0], 6, list(CLASS_OF.values()))
    support = measure_support(store, dataset, [0], 2, list(CLASS_OF.values()))
    with pytest.raises(UserError, match="rule='some' must be one of any, most, all"):
        keep_samples(support, 'some')
    with pytest.raises(UserError, match='share=1.5 of the samples'):
        keep_samples(support, share=1.5)
    args = 'logit_store', 'clean', saved_store, '--config', config, *LABELS
    assert 'cannot be written' in run_tool(*args, '--out', tmp_path / 'no/kept.txt').sentence
