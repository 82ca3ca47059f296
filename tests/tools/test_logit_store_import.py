"""import-cream from the command line, and no training from what it makes."""
import json
import struct

import numpy as np
import pytest
from mmengine.runner import Runner
from tiny_flow import CLASSES, TOPK, distilling

from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore


@pytest.fixture
def original(tmp_path, saved_store):
    """One epoch in the original's layout, of the samples of a store, and the list of their keys."""
    store = LogitStore(saved_store)
    keys = [store.key(i) for i in range(store.num_samples)]
    folder = tmp_path / 'logits' / f'logits_top{TOPK}_epoch0'
    folder.mkdir(parents=True)
    (folder / 'rank0-keys.txt').write_text(''.join(f'{i}\n' for i in range(len(keys))))
    prob = np.array([.5, .25, .125, .0625, 0], '<f2')
    (folder / 'rank0-values.bin').write_bytes(b''.join(
        struct.pack(f'<i{TOPK}h', i, *((np.arange(TOPK) + i) % CLASSES).tolist()) + prob.tobytes()
        for i in range(len(keys))))
    (tmp_path / 'keys.txt').write_text(''.join(f'{key}\n' for key in keys))
    return folder.parent, tmp_path / 'keys.txt'


def test_import_show_and_refusal(run_tool, original, photos, tmp_path):
    folder, keys = original
    out = tmp_path / 'imported'
    common = ('import-cream', folder, '--keys', keys, '--num-classes', CLASSES, '--out', out, '--teacher', 'CLIP')
    assert '--key-form' in run_tool('logit_store', *common).sentence
    said = json.loads(run_tool('logit_store', *common, '--key-form', 'index', '--json').out)
    assert (said['views'], said['num_samples'], said['written']) == ([0], 14, 1)
    key = keys.read_text().splitlines()[3]
    shown = json.loads(run_tool('logit_store', 'show', out, key, '--json').out)['views'][0]
    assert [entry['class'] for entry in shown['top']] == [3, 4, 5, 6, 7]
    assert shown['top'][1]['prob'] == pytest.approx(.25) and shown['tail_mass'] == pytest.approx(.0625)
    assert json.loads(run_tool('logit_store', 'info', out, '--json').out)['replayable'] is False
    assert 'NONE: imported from the original TinyViT' in run_tool('logit_store', 'info', out).out
    with pytest.raises(UserError, match='cannot be made again'):
        Runner.from_cfg(distilling(photos, out, tmp_path / 'work', epochs=1, base_seed=0)).train()
