"""The comparison page names the networks that its command names, and its counts are theirs."""
import sys
from pathlib import Path

import pytest

from mmtinyvit.apis.networks import count_macs, count_parameters

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / 'benchmarks'))
from comparison_networks import FAMILIES  # noqa: E402
from comparison_picture import draw  # noqa: E402

TABLES = {table.partition('\n')[0]: [line.strip('| ').split(' | ') for line in table.splitlines() if line[:2] == '| ']
          for table in (ROOT / 'docs/en/comparison.md').read_text().split('\n## ')[1:]}
OURS = [(family, i, network) for family, networks in FAMILIES.items() for i, network in enumerate(networks, start=1)
        if network.library == 'mmtinyvit' and family in ('TinyViT', 'DeiT')]  # the projects count their own


def test_the_page_is_complete():
    assert list(TABLES) == list(FAMILIES)
    for family, networks in FAMILIES.items():
        assert [row[:3] for row in TABLES[family][1:]] == [[n.name, n.library, str(n.side)] for n in networks]


def test_the_picture_has_every_family_of_ours(tmp_path):
    draw(ROOT / 'docs/en/comparison.md', tmp_path / 'picture.svg')
    picture = (tmp_path / 'picture.svg').read_text()
    ours = [family for family, networks in FAMILIES.items() if networks[0].library == 'mmtinyvit']
    assert len(ours) > 5 and [family for family in ours if f'>{family}<' not in picture] == []


@pytest.mark.parametrize(('family', 'row', 'network'), OURS, ids=lambda value: getattr(value, 'name', None))
def test_counts(family, row, network):
    model = network.build()
    parameters, macs = TABLES[family][row][3:5]
    assert f'{count_parameters(model) / 1e6:.2f}' == parameters
    model.eval()
    assert f'{count_macs(model, (network.side, ) * 2) / 1e9:.3f}' == macs
    assert TABLES[family][row][-1] == str(network.top1)


def test_macs_of_a_known_network():
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Flatten(),
                          nn.Linear(8 * 6 * 4, 5))
    macs = count_macs(model, (6, 4))
    assert macs == 6 * 4 * 9 * 3 * 8 + 8 * 6 * 4 * 5 and next(model.parameters()).device == torch.device('cpu')
