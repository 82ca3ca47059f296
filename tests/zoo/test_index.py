"""The metafiles: what they say is so, and mmpretrain lists it too."""
import re
import subprocess
import sys
from pathlib import Path

import mmpretrain
import pytest
import torch
import yaml
from mmengine.registry import MODELS, init_default_scope
from torch.utils.flop_counter import FlopCounterMode

import mmtinyvit
from mmtinyvit.apis.models import plain_config
from mmtinyvit.errors import UserError
from mmtinyvit.paths import mim_root
from mmtinyvit.zoo.index import entries, find_entry

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = list(entries().values())


@pytest.mark.parametrize('entry', ENTRIES, ids=lambda entry: entry.name)
def test_numbers_are_those_of_the_model(entry):
    """Parameters exactly; multiply-adds as published, which leave out this and that."""
    init_default_scope('mmpretrain')
    cfg = mmtinyvit.get_config(entry.name)
    with torch.device('meta'):
        model = MODELS.build(plain_config(cfg)['model']).eval()
    assert sum(p.numel() for p in model.parameters()) == entry.parameters
    side = int((re.search(r'-(\d+)px', entry.name) or [0, 224])[1])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = model(torch.zeros(1, 3, side, side, device='meta'), mode='tensor')
    assert counter.get_total_flops() / 2 == pytest.approx(entry.macs, rel=0.04)
    assert logits.shape == (1, 21841 if entry.data == 'ImageNet-21k' else 1000)


def test_entries_are_complete():
    assert sum('tiny_vit' in entry.url for entry in ENTRIES) == 11
    for entry in ENTRIES:
        assert entry.name.startswith('mmtinyvit-') and '_3rdparty_' in entry.name and entry.name == entry.name.lower()
        assert (mim_root() / entry.config).is_file()
        assert entry.url.startswith('https://') and entry.url.endswith('.pth')
        if entry.sha256:  # only where the publisher wrote it into the name
            assert entry.file_name.endswith(f'-{entry.sha256}.pth')
    assert len({entry.file_name for entry in ENTRIES}) == len(ENTRIES)
    for path in yaml.safe_load((mim_root() / 'model-index.yml').read_text())['Import']:
        assert 'not trained here' in (mim_root() / path).read_text()


def test_lists():
    assert mmtinyvit.list_models() == sorted(entries())
    assert mmtinyvit.list_models('mmtinyvit-21m_in21k') == [
        f'mmtinyvit-21m_in21k-distill-pre_3rdparty_in1k{px}' for px in ('', '-384px', '-512px')]
    assert mmtinyvit.list_models('*clip') == ['mmtinyvit-clip-vit-l14_3rdparty_in21k']
    assert mmtinyvit.list_models('nothing') == []


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(UserError, match='no published model mmtinyvit-5m_3rdparty_in22k: did you mean .*-5m_3rdparty'):
        find_entry('mmtinyvit-5m_3rdparty_in22k')
    with pytest.raises(UserError, match=r'mmtinyvit.list_models\(\) has the names'):
        mmtinyvit.get_config('?')


# ---------------------------------------------------------------- in mmpretrain
def test_mmpretrain_lists_them():
    assert mmpretrain.list_models('mmtinyvit', task='Image Classification') == mmtinyvit.list_models()
    assert len(mmpretrain.list_models('tinyvit')) == 8  # its own are as they were


@pytest.mark.parametrize('order', ['mmtinyvit, mmpretrain.apis.model', 'mmpretrain.apis.model, mmtinyvit'])
def test_in_either_order_of_import(order, tmp_path):
    """In an interpreter without site-packages, with an mmpretrain that only notes what it is told."""
    for library in ('torch', 'mmengine', 'mmcv'):
        (tmp_path / f'{library}.py').touch()
    apis = tmp_path / 'mmpretrain' / 'apis'
    apis.mkdir(parents=True)
    (apis / '__init__.py').touch()
    (apis.parent / '__init__.py').touch()
    (apis / 'model.py').write_text(
        'class ModelHub:\n    register_model_index = lambda path, config_prefix: print(path, config_prefix)\n')
    code = f'import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import {order}'
    done = subprocess.run([sys.executable, '-I', '-S', '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == f'{mim_root() / "model-index.yml"} {mim_root()}\n'


# ---------------------------------------------------------------- in the documentation
def table(rows) -> str:
    """The rows as the documentation shows them."""
    lines = ['| name | trained on | parameters | MACs | top-1 | top-5 |', '|---|---|---|---|---|---|']
    for row in rows:
        accuracy = ['' if each is None else f'{each:.1f}' for each in (row.top1, row.top5)]
        lines.append(' | '.join([f'| [`{row.name}`]({row.url})', row.data, f'{row.parameters / 1e6:.1f} M',
                                 f'{row.macs / 1e9:.1f} G', *accuracy]) + ' |')
    return '\n'.join(lines)


DEIT = [entry for entry in ENTRIES if 'deit' in entry.name]
OTHERS = [entry for entry in ENTRIES if entry not in DEIT]


@pytest.mark.parametrize('rows', [OTHERS, DEIT])
def test_tables_say_what_the_metafiles_say(rows):
    assert table(rows) in (ROOT / 'docs/en/model_zoo.md').read_text(), f'it should have\n{table(rows)}'
