"""clean, against a plain loop over samples and views, and the dataset that takes its list."""
import json
import re

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


def test_a_dataset_takes_the_list(photos, saved_store, tmp_path, capfd):
    kept = tmp_path / 'kept.txt'
    keys = [LogitStore(saved_store).key(i) for i in (1, 4, 8)]
    kept.write_text('\n'.join([*reversed(keys), 'another/one.png']), 'utf-8-sig')  # as editors of Windows write it
    dataset = DATASETS.build(photo_dataset(photos) | dict(keep=str(kept)))
    said = capfd.readouterr().out
    assert re.search('3 of 14 samples below .* are left by keep=; 1 of the 4 keys in .* name none', said)
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


def test_settings_that_make_no_sense(run_tool, photos, saved_store, config, tmp_path, monkeypatch):
    store, dataset = LogitStore(saved_store), DATASETS.build(photo_dataset(photos))
    with pytest.raises(StoreError, match='top 5 classes of each view, so topk=6'):
        measure_support(store, dataset, [0], 6, list(CLASS_OF.values()))
    support = measure_support(store, dataset, [0], 2, list(CLASS_OF.values()))
    with pytest.raises(UserError, match="rule='some' must be one of any, most, all"):
        keep_samples(support, 'some')
    with pytest.raises(UserError, match='share=1.5 of the samples'):
        keep_samples(support, share=1.5)
    args = 'logit_store', 'clean', saved_store, '--config', config, *LABELS
    (tmp_path / 'file').touch()
    assert 'Cannot write' in run_tool(*args, '--out', tmp_path / 'file/kept.txt').sentence
    monkeypatch.setattr(LogitStore, 'read_positions', None)  # these are said before anything is read
    assert 'is a folder' in run_tool(*args, '--out', tmp_path).sentence
    assert 'share=1.5 of the samples' in run_tool(*args, '--out', tmp_path / 'kept.txt', '--share', 1.5).sentence


def test_names_that_the_store_has_not(run_tool, saved_store, photos, config, tmp_path):
    """--classes supplies them, and labels are matched by name."""
    (tmp_path / 'names.txt').write_text('\n'.join(
        next((name for name, label in CLASS_OF.items() if label == number), f'other {number}') for number in range(12)))
    lists = []
    for out, options in ((tmp_path / 'named.txt', ('--classes', tmp_path / 'names.txt')),
                         (tmp_path / 'new/numbered.txt', LABELS)):
        assert run_tool('logit_store', 'clean', saved_store, '--config', config, *options, '--top', TOP, '--out',
                        out).status == 0
        lists.append(out.read_text())
    assert lists[0] == lists[1]


@pytest.mark.parametrize('wrapper', [
    dict(type='RepeatDataset', times=3), dict(type='mmtinyvit.RepeatedViews', num_repeats=2)], ids=str)
def test_images_that_are_shown_several_times(run_tool, photos, saved_store, config, tmp_path, wrapper):
    """A wrapper of the training plays no role: each image counts once."""
    cfg = saving(photos, saved_store, tmp_path / 'work')
    cfg.test_dataloader.dataset = dict(wrapper, dataset=cfg.test_dataloader.dataset)
    cfg.dump(tmp_path / 'wrapped.py')
    for name, path in (('plain', config), ('wrapped', tmp_path / 'wrapped.py')):
        ended = run_tool('logit_store', 'clean', saved_store, '--config', path, *LABELS, '--top', TOP, '--out',
                         tmp_path / name)
        assert ended.status == 0
    assert (tmp_path / 'wrapped').read_text() == (tmp_path / 'plain').read_text()
    report = run_tool('logit_store', 'report', saved_store, '--config', tmp_path / 'wrapped.py', *LABELS, '--out',
                      tmp_path / 'report.html', '--json')
    assert json.loads(report.out)['samples'] == 14
