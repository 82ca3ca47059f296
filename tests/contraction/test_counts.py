"""The closed formulas count what the built network has, for the paper's family and for random architectures."""
import os
import random

import pytest
import torch
from mmengine.registry import MODELS

from mmtinyvit.apis import networks
from mmtinyvit.contraction.architecture import Architecture
from mmtinyvit.contraction.counts import count_macs, count_parameters
from mmtinyvit.errors import UserError
from mmtinyvit.models.backbones.tiny_vit import ARCHS

MANY = int(os.environ.get('MMTINYVIT_ARCHITECTURES', 50))  # 3,000 were compared, which takes a minute or two
FAMILY = {'21m': 21_198_568, '11m': 10_996_972, '5m': 5_392_764}


def random_architecture(rng: random.Random) -> Architecture:
    heads = [rng.choice((4, 8, 16))] * 3 if rng.random() < .7 else [rng.choice((4, 8, 16)) for _ in range(3)]
    return Architecture(
        (2 * rng.randrange(1, 12), *(head * rng.randrange(1, 5) for head in heads)),
        tuple(rng.randrange(1, 4) for _ in range(4)), tuple(rng.randrange(1, 9) for _ in range(3)),
        rng.choice((1., 2., 3.5, 4.)), rng.choice((1., 2., 3.3, 4.)), tuple(heads))


def built(architecture: Architecture, num_classes: int) -> torch.nn.Module:
    with torch.device('meta'):
        return MODELS.build(dict(
            type='ImageClassifier', backbone=dict(type='mmtinyvit.TinyViT', arch=architecture.arch),
            head=dict(type='LinearClsHead', num_classes=num_classes, in_channels=architecture.dims[-1])))


def test_random_architectures_count_as_they_are_built():
    rng = random.Random(0)
    for number in range(MANY):
        architecture, num_classes = random_architecture(rng), rng.randrange(1, 50)
        model = built(architecture, num_classes)
        assert count_parameters(architecture, num_classes) == networks.count_parameters(model), architecture.name
        if number % 10 == 0:  # ten times as slow
            size = rng.randrange(8, 130), rng.randrange(8, 130)
            assert count_macs(architecture, size, num_classes) == networks.count_macs(model, size), (architecture, size)
        assert Architecture.parse(architecture.name) == architecture
        assert Architecture.of_backbone(dict(arch=architecture.arch)) == architecture


@pytest.mark.parametrize('arch', FAMILY)
def test_the_papers_family(arch):
    architecture = Architecture.of_backbone(dict(arch=arch))
    assert count_parameters(architecture) == FAMILY[arch]
    assert {name: architecture.arch[name] for name in ARCHS[arch]} == ARCHS[arch]
    assert architecture.name.endswith('_n2-2-6-2_w7-14-7_r4_m4_e32')


@pytest.mark.parametrize('ratio', [8 / 3, 2.1, 10 / 3, 2.0000001, 0.5])
def test_a_ratio_is_in_the_name_to_its_last_digit(ratio):
    """8 / 3 of 24 channels are 64, and 2.66667 would be 64.00008."""
    architecture = Architecture((24, ) * 4, (1, ) * 4, (7, ) * 3, ratio, ratio, (24, ) * 3)
    assert Architecture.parse(architecture.name) == architecture
    assert count_parameters(architecture, 9) == networks.count_parameters(built(architecture, 9))


def test_what_is_no_architecture():
    with pytest.raises(UserError, match="'tiny' is no architecture: write, for example, d64"):
        Architecture.parse('tiny')
    for wrong in ('d64-128-160-320_n2-2-6-2_w7-14-7_r4._m4_e32', 'd64-128-160-320_n2-2-6-2_w7-14-7_r4_m4_e0'):
        with pytest.raises(UserError, match='is no architecture: write'):
            Architecture.parse(wrong)
    with pytest.raises(UserError, match=r'\(30, 32, 64\) of the stages 2 to 4 must be multiples of .* \(16, 16, 16\)'):
        Architecture.parse('d16-30-32-64_n1-1-1-1_w7-7-7_r4_m4_e16')
    with pytest.raises(UserError, match='needs a TinyViT of 4 stages, and this one has 3'):
        Architecture.parse('d16-32-64_n1-1-1_w7-7_r4_m4_e16-16')
