"""Logits in the original's layout, written by a writer of our own after its description."""
import struct
from pathlib import Path

import numpy as np
import pytest
from store_teacher import contents

from mmtinyvit.store import LogitStore, StoreError
from mmtinyvit.store.admin.import_cream import import_cream
from mmtinyvit.store.admin.summary import is_replayable

KEYS = [f'n{i % 5:08d}/n{i % 5:08d}_{i}.JPEG' for i in range(150)]
CLASSES, TOPK = 40_000, 6  # the original writes classes from 32,768 on as negative numbers


def record(epoch: int, sample: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes and half-precision probabilities, the largest first, strictly."""
    dice = np.random.default_rng((epoch, sample))
    prob = np.sort(dice.dirichlet(np.full(30, 0.3))[:TOPK].astype(np.float16))[::-1]
    prob[0] = np.nextafter(prob[0], np.float16(1))
    return dice.choice(CLASSES, TOPK, replace=False), prob


def write_epoch(root: Path, epoch: int, names: list[str], processes: int = 4, padding: int = 3) -> Path:
    """Shuffled, dealt out to processes, with the first samples once more at the end as padding.

    Of a sample that two processes saved, the one with the higher rank says something else.
    """
    folder = root / f'logits_top{TOPK}_epoch{epoch}'
    folder.mkdir(parents=True)
    order = np.random.default_rng(epoch).permutation(len(names)).tolist()
    dealt = [[*order, *order[:padding]][rank::processes] for rank in range(processes)]
    for rank, samples in enumerate(dealt):
        (folder / f'rank{rank}-keys.txt').write_text(''.join(f'{names[i]}\n' for i in samples))
        with open(folder / f'rank{rank}-values.bin', 'wb') as values:
            for i in samples:
                index, prob = record(epoch, i)
                index = (index + any(i in lower for lower in dealt[:rank])) % CLASSES
                values.write(struct.pack(f'<i{TOPK}H', 12345 + i, *index.tolist()) + prob.astype('<f2').tobytes())
    return folder


def stems() -> list[str]:
    return [Path(key).stem for key in KEYS]


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / 'keys.txt'
    path.write_text(''.join(f'{key}\n' for key in KEYS))
    return path


@pytest.mark.parametrize(('form', 'names'), [('stem', stems()), ('path', KEYS), ('index', [*map(str, range(150))])])
def test_every_record_is_the_original_s(tmp_path, listed, form, names):
    for epoch in (0, 3):
        write_epoch(tmp_path / 'logits', epoch, names)
    before = contents(tmp_path / 'logits')
    result = import_cream(tmp_path / 'logits', listed, tmp_path / 'store', CLASSES, form, teacher='CLIP')
    assert contents(tmp_path / 'logits') == before
    assert (result.topk, result.views, result.num_samples, result.written) == (TOPK, [0, 3], 150, 6)
    assert result.unknown == 0 and result.repeated == 6
    store = LogitStore(tmp_path / 'store')
    assert [store.key(i) for i in range(150)] == KEYS and not [f for f in store.verify() if f.problem]
    for epoch in (0, 3):
        read = store.read(epoch, KEYS)
        for i in range(150):
            index, prob = record(epoch, i)
            order = index.argsort()
            total = prob.astype(np.float64).sum() + (1 - prob.astype(np.float64).sum()).astype(np.float16)
            expected = np.maximum(prob[order].astype(np.float64), 2.0**-25) / total
            assert read.index[i].tolist() == index[order].tolist()
            np.testing.assert_allclose(np.exp(read.log_prob[i].astype(np.float64)), expected, rtol=2e-6)
            assert read.index[i, read.log_prob[i].argmax()] == index[0]


def test_the_store_says_that_it_cannot_be_replayed(tmp_path, listed):
    write_epoch(tmp_path / 'logits', 0, stems())
    import_cream(tmp_path / 'logits', listed, tmp_path / 'store', CLASSES, teacher='CLIP')
    manifest = LogitStore(tmp_path / 'store').manifest
    assert not is_replayable(manifest) and manifest.fingerprints['pipeline']['replay'] == 'none'
    assert manifest.fingerprints['teacher'] == dict(name='CLIP') and manifest.codec == 'exact'


def test_a_part_of_the_samples_and_epochs_later(tmp_path, listed):
    for epoch in (0, 1):
        write_epoch(tmp_path / 'logits', epoch, stems())
    part = tmp_path / 'part.txt'
    part.write_text(''.join(f'{key}\n' for key in KEYS[10:20]))
    first = import_cream(tmp_path / 'logits', part, tmp_path / 'store', CLASSES, epochs=[1])
    assert first.views == [1] and first.unknown >= 140 and first.written == 1
    assert import_cream(tmp_path / 'logits', part, tmp_path / 'store', CLASSES).written == 1
    store = LogitStore(tmp_path / 'store')
    assert store.views == [0, 1]
    assert store.read(1, [KEYS[13]]).index[0].tolist() == sorted(record(1, 13)[0].tolist())
    assert import_cream(tmp_path / 'logits', part, tmp_path / 'store', CLASSES).written == 0


def test_what_is_refused(tmp_path, listed):
    folder = write_epoch(tmp_path / 'logits', 0, stems())
    out = tmp_path / 'store'
    with pytest.raises(StoreError, match=r"no record of 150 of the 150 samples, first of '0'.*--key-form"):
        import_cream(tmp_path / 'logits', listed, tmp_path / 'a', CLASSES, 'index')
    with pytest.raises(StoreError, match='a class outside 0 to 99'):
        import_cream(tmp_path / 'logits', listed, tmp_path / 'b', 100)
    with pytest.raises(StoreError, match='no folders named logits_topK_epochE'):
        import_cream(folder, listed, out, CLASSES)
    with pytest.raises(StoreError, match=r'no logits of epoch 7: it has the epochs \[0\]'):
        import_cream(tmp_path / 'logits', listed, out, CLASSES, epochs=[7])
    with pytest.raises(StoreError, match='cannot be read'):
        import_cream(tmp_path / 'logits', tmp_path / 'none.txt', out, CLASSES)
    (tmp_path / 'logits' / 'logits_top9_epoch0').mkdir()
    with pytest.raises(StoreError, match='top 6 and 9: say which with --topk'):
        import_cream(tmp_path / 'logits', listed, out, CLASSES)
    with pytest.raises(StoreError, match='saving did not finish'):
        import_cream(tmp_path / 'logits', listed, tmp_path / 'c', CLASSES, topk=9)
    values = folder / 'rank1-values.bin'
    data = values.read_bytes()
    values.write_bytes(data[:-1])
    with pytest.raises(StoreError, match='it was cut off'):
        import_cream(tmp_path / 'logits', listed, tmp_path / 'd', CLASSES, topk=TOPK)
    values.write_bytes(data[:16] + b'\xff\x7f' + data[18:])
    with pytest.raises(StoreError, match='NaN or infinite'):
        import_cream(tmp_path / 'logits', listed, tmp_path / 'e', CLASSES, topk=TOPK)


def test_other_files_are_not_mixed_in(tmp_path, listed):
    write_epoch(tmp_path / 'logits', 0, stems())
    write_epoch(tmp_path / 'other', 1, stems()).rename(tmp_path / 'other' / f'logits_top{TOPK}_epoch0')
    import_cream(tmp_path / 'logits', listed, tmp_path / 'store', CLASSES)
    with pytest.raises(StoreError, match='from other files than'):
        import_cream(tmp_path / 'other', listed, tmp_path / 'store', CLASSES)
    (tmp_path / 'store' / 'view-0000' / 'shard-00001.logits').unlink()
    with pytest.raises(StoreError, match='from other files than'):
        import_cream(tmp_path / 'other', listed, tmp_path / 'store', CLASSES)
    whole = import_cream(tmp_path / 'logits', listed, tmp_path / 'again', CLASSES)
    assert whole.written == 3 and import_cream(tmp_path / 'logits', listed, tmp_path / 'store', CLASSES).written == 1
    assert contents(tmp_path / 'store') == contents(tmp_path / 'again')


def test_keys_that_are_not_utf_8(tmp_path, listed):
    """Those of the original are records of unknown samples; those of the list are refused by name."""
    folder = write_epoch(tmp_path / 'logits', 0, stems())
    names, values = folder / 'rank0-keys.txt', folder / 'rank0-values.bin'
    names.write_bytes(names.read_bytes() + b'caf\xe9\n')
    values.write_bytes(values.read_bytes() + values.read_bytes()[:4 + 4 * TOPK])
    assert import_cream(tmp_path / 'logits', listed, tmp_path / 'store', CLASSES).unknown == 1
    listed.write_bytes(listed.read_bytes() + b'caf\xe9\n')
    with pytest.raises(StoreError, match=r"Sample 150 has the key b'caf\\xe9', which is not text in UTF-8"):
        import_cream(tmp_path / 'logits', listed, tmp_path / 'other', CLASSES)
