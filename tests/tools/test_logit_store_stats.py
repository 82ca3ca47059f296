"""stats and gallery, against a straightforward reckoning on dense targets."""
import json
import re
import shutil

import numpy as np
import pytest
from mmengine.registry import DATASETS
from PIL import Image
from tiny_flow import CLASSES, TOPK, saving

from mmtinyvit.apis.store_stats import measure_store, pick_views
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore

CLASS_OF = {'class_0': 4, 'class_1': 0, 'class_2': 11}
LABELS = ('--label-index', *CLASS_OF.values())  # of the teacher's twelve classes


@pytest.fixture
def config(photos, saved_store, tmp_path):
    path = tmp_path / 'teacher.py'
    saving(photos, saved_store, tmp_path / 'work').dump(path)
    return path


def dense(store, view):
    """``(n, C)`` float64 targets of all samples, the tail spread evenly."""
    record = store.read_positions(view, range(store.num_samples))
    target = np.repeat(record.tail_mass[:, None].astype(np.float64) / (CLASSES - TOPK), CLASSES, 1)
    np.put_along_axis(target, record.index, np.exp(record.log_prob.astype(np.float64)), 1)
    return target


def test_stats(run_tool, saved_store, config, tmp_path):
    said = json.loads(run_tool('logit_store', 'stats', saved_store, '--config', config, *LABELS, '--json',
                               '--worst', 14, '--out', tmp_path / 'stats.png').out)
    store = LogitStore(saved_store)
    keys = [store.key(i) for i in range(14)]
    labels = np.array([CLASS_OF[key.split('/')[0]] for key in keys])
    targets = np.stack([dense(store, view) for view in (0, 1)])  # (2, n, C)
    ranks = np.argsort(-targets, axis=2, kind='stable')
    assert said['samples'] == 14 and said['views'] == [0, 1]
    assert said['top1'] == pytest.approx((ranks[..., 0] == labels).mean())
    assert said['top5'] == pytest.approx((ranks[..., :5] == labels[:, None]).any(2).mean())
    assert said['top1_by_view']['1'] == pytest.approx((ranks[1, :, 0] == labels).mean())
    assert said['same_top1'] == pytest.approx((ranks[0, :, 0] == ranks[1, :, 0]).mean())
    entropy = -(targets * np.log(targets)).sum(2)
    assert said['entropy'] == pytest.approx(entropy.mean(), rel=1e-5)
    ordered = -np.sort(-targets, axis=2)
    for k in (1, 2, 5):
        assert said['mass'][str(k)] == pytest.approx(ordered[..., :k].sum(2).mean(), rel=1e-5)
    wrong = sum(row['views'] for row in said['confusions'])
    assert wrong == (ranks[..., 0] != labels).sum() and wrong > 0
    best = said['confusions'][0]
    assert best['views'] == ((ranks[..., 0] == best['predicted']) & (labels == best['label'])).sum()
    gap = (targets.max(2) - targets[:, np.arange(14), labels]).mean(0)
    assert [row['key'] for row in said['disagreements']] == [keys[i] for i in np.argsort(-gap)]
    assert [row['key'] for row in said['hardest']] == [keys[i] for i in np.argsort(-entropy.mean(0))]
    first = said['disagreements'][0]
    assert first['label_prob'] == pytest.approx(targets.mean(0)[keys.index(first['key']), first['label']], rel=1e-5)
    for name in ('entropy', 'label_prob'):
        assert sum(said['histograms'][name]['counts']) == 28
    with Image.open(tmp_path / 'stats.png') as picture:
        assert picture.size == (1100, 770)


def test_stats_in_words(run_tool, saved_store, config):
    ended = run_tool('logit_store', 'stats', saved_store, '--config', config, *LABELS, '--samples', 4, '--views', '1:2')
    assert ended.status == 0 and 'Teacher and label disagree most' in ended.out and '1 (1)' in ended.out


@pytest.mark.parametrize('labels, said', [
    (None, 'has 3 classes and the teacher .*--label-index'),
    ([0, 1], 'has 3 labels, and --label-index names 2'),
    ([0, 1, 2, 3], 'has 3 labels, and --label-index names 4'),
    ([0, 1, 12], 'from 0 to 12.*has 12 classes')])
def test_labels_that_the_teacher_does_not_know(saved_store, photos, tmp_path, labels, said):
    dataset = DATASETS.build(saving(photos, saved_store, tmp_path).test_dataloader.dataset)
    with pytest.raises(UserError, match=said):
        measure_store(LogitStore(saved_store), dataset, [0], label_index=labels)


def test_views_that_are_not_complete(saved_store):
    assert pick_views(LogitStore(saved_store), range(1, 9)) == [1]
    with pytest.raises(UserError, match=r'no complete view among 7:8 \(it has 0-1\)'):
        pick_views(LogitStore(saved_store), range(7, 8))


def test_gallery_of_the_hardest(run_tool, saved_store, photos, config, tmp_path):
    dataset = DATASETS.build(saving(photos, saved_store, tmp_path).test_dataloader.dataset)
    measured = measure_store(LogitStore(saved_store), dataset, [0, 1], label_index=list(CLASS_OF.values()))
    said = json.loads(run_tool('logit_store', 'gallery', saved_store, '--config', config, *LABELS, '--hardest',
                               '--rows', 2, '--out', tmp_path / 'hardest.png', '--json').out)
    assert said['rows'] == [row['index'] for row in measured['disagreements'][:2]] and said['views'] == [0, 1]
    with Image.open(tmp_path / 'hardest.png') as picture:
        assert min(picture.size) > 200


def test_gallery_of_the_store_that_the_config_names(run_tool, config, tmp_path):
    """The teacher's; test_browse_views has a student's."""
    ended = run_tool('logit_store', 'gallery', '--config', config, '--rows', 3, '--out', tmp_path / 'spread.png')
    assert ended.status == 0 and '0, 6, 13' in ended.out
    chosen = run_tool('logit_store', 'gallery', '--config', config, '--index', 5, '--out', tmp_path / 'one.png')
    assert chosen.status == 0 and (tmp_path / 'one.png').stat().st_size < (tmp_path / 'spread.png').stat().st_size
    assert 'There is no sample 14: the dataset has 14' in run_tool('logit_store', 'gallery', '--config', config,
                                                                   '--index', 14).sentence


def test_gallery_of_a_store_that_is_not_complete(run_tool, saved_store, config, tmp_path):
    store = shutil.copytree(saved_store, tmp_path / 'half')
    shutil.rmtree(store / 'view-0000')
    max(store.glob('view-0001/*.logits')).unlink()
    args = 'logit_store', 'gallery', store, '--config', config, '--out', tmp_path / 'half.png'
    drawn = run_tool(*args, '--index', 0, 1)
    assert drawn.status == 0 and (tmp_path / 'half.png').exists() and '1' in drawn.out.split('views')[-1]
    assert 'has no view among 5:6 (it has 1)' in run_tool(*args, '--index', 0, '--views', '5:6').sentence
    assert 'View 1 of the store' in run_tool(*args, '--index', 13).sentence


def test_stats_with_the_names_of_folders(run_tool, saved_store, config, tmp_path):
    """The store has no names: --classes gives them, and --label-index says which class a folder is."""
    names = tmp_path / 'names.txt'
    names.write_text('\n'.join(f'animal {number}' for number in range(CLASSES)))
    call = ('logit_store', 'stats', saved_store, '--config', config, '--json')
    pairs = [f'{name}=animal {number}' for name, number in CLASS_OF.items()]
    named = run_tool(*call, '--classes', names, '--label-index', *pairs)
    assert json.loads(named.out) == json.loads(run_tool(*call, *LABELS).out)
    for name, lines in (('pairs', pairs), ('numbers', map(str, CLASS_OF.values()))):
        (tmp_path / name).write_text('\n'.join(['', *lines, '']))
        assert json.loads(run_tool(*call, '--classes', names, '--label-index', tmp_path / name).out) == json.loads(
            named.out)
    for arguments, said in (((), '--classes in1k'),
                            (('--classes', names), 'cannot be told among the former'),
                            (('--classes', names, '--label-index', *pairs[:2], 'clas_2=animal 11'), 'class_2'),
                            (('--label-index', 'tench'), 'fish=tench, .* --label-index 0 569, or a file'),
                            (('--label-index', config), 'a file with one of these a line')):
        ended = run_tool(*call, *arguments)
        assert ended.status == 1 and re.search(said, ended.err)
