"""correlation: of stores, and of students on the same views."""
import json
import shutil

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, MODELS
from PIL import Image
from tiny_flow import CLASSES, TOPK, distilling, labelled_loader, saving, student

from mmtinyvit.apis import class_correlation
from mmtinyvit.datasets.view_dataset import ViewDataset
from mmtinyvit.store import LogitStore, LogitWriter, Record


def correlation_of(dense: np.ndarray) -> np.ndarray:
    """Of probabilities ``(M, C)``; 0 for classes in fewer than ten of the records."""
    known = (dense > 0).sum(0) >= 10
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.where(known[:, None] & known, np.corrcoef(dense, rowvar=False), 0), known


@pytest.fixture
def stored(saved_store):
    """``(28, C)`` float64, what the store has of both views."""
    store, views = LogitStore(saved_store), []
    for view in (0, 1):
        record = store.read_positions(view, range(14))
        dense = np.zeros((14, CLASSES))
        np.put_along_axis(dense, record.index, np.exp(record.log_prob.astype(np.float64)), 1)
        views.append(dense)
    return np.concatenate(views)


@pytest.fixture
def trained(photos, saved_store, tmp_path):
    """A student's config, its checkpoint, and the top K of what it says about the views, ``(28, C)`` float64."""
    cfg = distilling(photos, saved_store, tmp_path / 'work')
    cfg.test_dataloader = labelled_loader(photos)
    cfg.dump(tmp_path / 'student.py')
    torch.manual_seed(1)
    model = MODELS.build(student() | dict(data_preprocessor=dict(cfg.data_preprocessor) | dict(
        type='mmtinyvit.ReplayDataPreprocessor'))).eval()
    model.head.fc.weight.data.mul_(50)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'student.pth')
    cfg.train_dataloader.dataset.pipeline.pop(2)  # the record
    views = ViewDataset(DATASETS.build(cfg.train_dataloader.dataset))
    dense = np.zeros((28, CLASSES))
    for row in range(28):
        inputs = model.data_preprocessor(dict(inputs=views[divmod(row, 14)]['inputs'][None]), False)['inputs']
        with torch.no_grad():
            prob = model(inputs, mode='tensor').double().softmax(1)[0].numpy()
        best = np.argsort(-prob)[:TOPK]
        dense[row, best] = prob[best]
    return tmp_path / 'student.py', tmp_path / 'student.pth', dense


def test_of_a_store(run_tool, saved_store, stored, tmp_path):
    args = 'logit_store', 'correlation', saved_store
    said = json.loads(run_tool(*args, '--json', '--pairs', 3, '--out', tmp_path / 'map.png').out)
    expected, known = correlation_of(stored)
    assert (said['samples'], said['of'], said['views']) == (14, 14, [0, 1])
    assert said['maps'][0]['classes'] == known.sum() > 2 and said['maps'][0]['records'] == 28
    best = said['pairs'][0]
    upper = np.triu(expected - 9 * ~(known[:, None] & known), 1) - 9 * np.tri(CLASSES)
    assert (best['class'], best['other']) == np.unravel_index(upper.argmax(), upper.shape)
    assert best['correlation'] == pytest.approx(upper.max(), abs=1e-6)
    with Image.open(tmp_path / 'map.png') as picture:
        assert min(picture.size) > 200
    assert best['records'] == ((stored[:, [best['class'], best['other']]] > 0).all(1)).sum()
    ended = run_tool(*args, '--samples', 12)
    assert ended.status == 0 and '12 of 14' in ended.out and 'Class correlation' in ended.out
    few = run_tool(*args, '--samples', 7, '--views', '1:2')
    assert few.status == 1 and '0 are in 10 or more of the 7 records: read more with --samples' in few.sentence


def test_of_a_student(run_tool, saved_store, stored, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(class_correlation, 'LEAST_CLASSES', 2)
    config, checkpoint, dense = trained
    copy = shutil.copytree(saved_store, tmp_path / 'copy')
    said = json.loads(run_tool('logit_store', 'correlation', saved_store, checkpoint, copy, '--config', config,
                               '--json', '--out', tmp_path / 'maps.png').out)
    (first, known), (other, others) = correlation_of(stored), correlation_of(dense)
    assert [row['kind'] for row in said['maps']] == ['store', 'checkpoint', 'store']
    assert [row['classes'] for row in said['maps']] == [known.sum(), others.sum(), known.sum()]
    both = np.flatnonzero(known & others)
    apart = np.triu_indices(len(both), 1)
    expected = np.corrcoef(first[np.ix_(both, both)][apart], other[np.ix_(both, both)][apart])[0, 1]
    assert len(both) > 2 and said['alike'][0][1] == pytest.approx(expected, abs=1e-4)
    assert said['alike'][0][2] == pytest.approx(1)


def test_what_cannot_be_compared(run_tool, saved_store, trained, photos, tmp_path):
    config, checkpoint, _ = trained
    args = 'logit_store', 'correlation', saved_store
    assert 'give its --config' in run_tool(*args, checkpoint).sentence
    assert 'names 2 configs for 1 checkpoints' in run_tool(*args, checkpoint, '--config', config, config).sentence
    assert 'names 2 configs for 0 checkpoints' in run_tool(*args, '--config', config, config).sentence
    assert 'There is no store at' in run_tool(*args, tmp_path / 'none').sentence
    assert 'no checkpoint' in run_tool(*args, tmp_path / 'none.pth', '--config', config).sentence.lower()
    cfg = distilling(photos, saved_store, tmp_path / 'work', model=student(7))
    cfg.test_dataloader = labelled_loader(photos)
    cfg.dump(tmp_path / 'seven.py')
    torch.save(dict(state_dict=MODELS.build(student(7)).state_dict(), meta={}), tmp_path / 'seven.pth')
    assert 'seven.pth has 7 classes, and the store' in run_tool(*args, tmp_path / 'seven.pth', '--config',
                                                                tmp_path / 'seven.py').sentence
    teacher = tmp_path / 'teacher.py'
    saving(photos, saved_store, tmp_path / 'work').dump(teacher)
    assert run_tool(*args, '--config', teacher).status == 0  # a config without a checkpoint: it has the images


# ---------------------------------------------------------------- networks that number their classes otherwise
NAMES = tuple(f'n{number:08d}' for number in range(CLASSES))


def write_named(path, names, views: int = 1, seed: int = 0, samples: int = 200) -> None:
    """A store of one teacher, whose classes stand in the order ``names``."""
    rng, here = np.random.default_rng(seed), {name: number for number, name in enumerate(names)}
    request = dict(topk=TOPK, num_classes=CLASSES, codec='exact', samples_per_shard=samples, fingerprints=dict(
        class_names='\n'.join(names)))
    with LogitWriter(path, request, [str(i) for i in range(samples)]) as writer:
        for unit in writer.missing(range(views)):
            index = np.stack([rng.choice(CLASSES, TOPK, replace=False) for _ in range(samples)])
            prob = np.sort(rng.dirichlet(np.full(TOPK, .5), samples) * .9 + 1e-3)
            index = np.vectorize(lambda number: here.get(NAMES[number], CLASSES - 1))(index)
            order = np.argsort(index, axis=1)
            index, prob = (np.take_along_axis(each, order, 1) for each in (index, prob))
            writer.write_shard(unit, Record(index, np.log(prob).astype(np.float32),
                                            (1 - prob.sum(1)).astype(np.float32)))


def test_classes_are_matched_by_name(run_tool, tmp_path):
    write_named(tmp_path / 'one', NAMES)
    write_named(tmp_path / 'other', NAMES[::-1])
    write_named(tmp_path / 'foreign', (*NAMES[1:], 'n99999999'))
    args = 'logit_store', 'correlation', tmp_path / 'one', tmp_path / 'other'
    said = json.loads(run_tool(*args, '--json').out)
    assert said['alike'][0][1] == pytest.approx(1) and said['classes_in_common'][0][1] == CLASSES
    refused = run_tool(*args, tmp_path / 'foreign')
    assert refused.status == 1 and 'n99999999' in refused.sentence and 'of the same classes' in refused.sentence


def test_a_student_of_another_order(run_tool, saved_store, trained, tmp_path, monkeypatch):
    """The same weights with permuted outputs, which its checkpoint names: the same map."""
    monkeypatch.setattr(class_correlation, 'LEAST_CLASSES', 2)
    config, checkpoint, _ = trained
    named, names, order = tmp_path / 'named', [f'class {n}' for n in range(CLASSES)], np.roll(np.arange(CLASSES), 3)
    source = LogitStore(saved_store)
    request = dict(topk=TOPK, num_classes=CLASSES, codec='exact', samples_per_shard=14, fingerprints=dict(
        source.manifest.fingerprints) | dict(class_names='\n'.join(names)), base_seed=source.manifest.base_seed)
    with LogitWriter(named, request, [source.key(i) for i in range(14)]) as writer:
        for unit in writer.missing([0, 1]):
            record = source.read_positions(unit.view, range(14))
            writer.write_shard(unit, record, source.canaries(unit.view, 0))
    loaded = torch.load(checkpoint)
    permuted = {name: tensor[order] if name.startswith('head.') else tensor
                for name, tensor in loaded['state_dict'].items()}
    for path, weights, said in (('plain.pth', loaded['state_dict'], names),
                                ('permuted.pth', permuted, [names[n] for n in order])):
        torch.save(dict(state_dict=weights, meta=dict(dataset_meta=dict(classes=said))), tmp_path / path)
    said = json.loads(run_tool('logit_store', 'correlation', named, tmp_path / 'plain.pth', tmp_path / 'permuted.pth',
                               '--config', config, '--json').out)
    assert said['alike'][0][1] == pytest.approx(said['alike'][0][2]) and said['alike'][1][2] == pytest.approx(1)


def test_a_student_that_diverged(run_tool, saved_store, trained, tmp_path):
    config, checkpoint, _ = trained
    loaded = torch.load(checkpoint)
    loaded['state_dict']['head.fc.bias'].fill_(float('nan'))
    torch.save(loaded, tmp_path / 'nan.pth')
    ended = run_tool('logit_store', 'correlation', saved_store, tmp_path / 'nan.pth', '--config', config)
    assert ended.status == 1 and 'no numbers (NaN)' in ended.sentence


def test_a_longer_store_is_read_no_further(run_tool, tmp_path, monkeypatch):
    for name, views in (('short', 1), ('long', 20)):
        write_named(tmp_path / name, NAMES, views)
    monkeypatch.setattr('mmtinyvit.cli.store_analysis.RECORDS', 100)
    said = json.loads(run_tool('logit_store', 'correlation', tmp_path / 'short', tmp_path / 'long', '--json').out)
    assert [row['records'] for row in said['maps']] == [100, 100]


def test_names_with_dollars(run_tool, tmp_path):
    """They are no formulas."""
    write_named(tmp_path / r's$\frac$', NAMES)
    (tmp_path / 'names.txt').write_text('\n'.join([r'$\frac{a$', *NAMES[1:]]))
    ended = run_tool('logit_store', 'correlation', tmp_path / r's$\frac$', '--classes', tmp_path / 'names.txt', '--out',
                     tmp_path / 'map.png')
    assert ended.status == 0 and (tmp_path / 'map.png').exists()
