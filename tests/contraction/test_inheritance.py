"""A child has its parent's weights wherever both networks have the same thing."""
import pytest
import torch
from mmengine.registry import MODELS

from mmtinyvit.contraction.architecture import Architecture
from mmtinyvit.contraction.inheritance import inherit

PARENT = Architecture.parse('d8-16-24-32_n1-2-2-1_w4-2-1_r4_m4_e8')


def built(architecture: Architecture, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = MODELS.build(dict(
        type='ImageClassifier', backbone=dict(type='mmtinyvit.TinyViT', arch=architecture.arch),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=architecture.dims[-1])))
    model.eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def test_the_same_architecture_becomes_the_same_network():
    parent, child = built(PARENT, 0), built(PARENT, 1)
    assert inherit(child, PARENT, parent.state_dict(), PARENT) == len(parent.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(parent(images), child(images))


def test_what_both_have_is_the_parents():
    architecture = Architecture.parse('d8-16-16-32_n1-1-2-1_w4-3-1_r2_m3_e8')
    parent, child = built(PARENT, 0).state_dict(), built(architecture, 1)
    before = {name: value.clone() for name, value in child.state_dict().items()}
    inherit(child, architecture, parent, PARENT)
    after = child.state_dict()
    assert torch.equal(after['backbone.stages.0.blocks.0.conv1.conv.weight'],
                       parent['backbone.stages.0.blocks.0.conv1.conv.weight'][:16])  # R 2 of 4
    stage = 'backbone.stages.2.blocks.1'  # 2 of 3 heads, windows of 3 instead of 2
    ours, theirs = after[f'{stage}.attn.qkv.weight'], parent[f'{stage}.attn.qkv.weight']
    assert torch.equal(ours, theirs[:2 * 3 * 8, :16])
    ours, theirs = after[f'{stage}.attn.attention_biases'], parent[f'{stage}.attn.attention_biases']
    for head, down, right in ((0, 0, 0), (1, 1, 0), (1, 1, 1)):
        assert ours[head, down * 3 + right] == theirs[head, down * 2 + right]
    assert torch.equal(ours[:, 8], before[f'{stage}.attn.attention_biases'][:, 8])  # 2 down, 2 to the right: its own
    assert not any('stages.1.blocks.1' in name for name in after)


@pytest.mark.parametrize('head', [4, 16])
def test_heads_of_another_width(head):
    architecture = Architecture.parse(f'd8-16-32-32_n1-1-1-1_w4-2-1_r4_m4_e{head}')
    parent, child = built(PARENT, 0).state_dict(), built(architecture, 1)
    inherit(child, architecture, parent, PARENT)
    name, least = 'backbone.stages.1.blocks.0.attn.qkv.weight', min(head, 8)
    ours, theirs = child.state_dict()[name].view(-1, 3, head, 16), parent[name].view(-1, 3, 8, 16)
    heads = min(len(ours), len(theirs))
    assert torch.equal(ours[:heads, :, :least], theirs[:heads, :, :least])
