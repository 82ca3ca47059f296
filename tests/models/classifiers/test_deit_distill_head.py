import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from torch import nn

from mmtinyvit.models.classifiers import DeiTDistillHead


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)


def labelled(num: int) -> list[DataSample]:
    return [DataSample().set_gt_label(i % 5) for i in range(num)]


@pytest.mark.parametrize('batch', [1, 2, 3, 4])
@pytest.mark.parametrize('training', [False, True])
def test_the_mean_of_both_heads(batch, training):
    head = DeiTDistillHead(5, 8).train(training)
    cls_token, dist_token = torch.randn(batch, 8), torch.randn(batch, 8)
    first = cls_token @ head.layers.head.weight.T + head.layers.head.bias
    second = dist_token @ head.layers.head_dist.weight.T + head.layers.head_dist.bias
    got = head.separate(((cls_token, dist_token), ))
    assert torch.allclose(got[0], first, atol=1e-6) and torch.allclose(got[1], second, atol=1e-6)
    assert torch.allclose(head(((cls_token, dist_token), )), (first + second) / 2, atol=1e-6)
    scores = [sample.pred_score for sample in head.predict(((cls_token, dist_token), ))]
    assert torch.allclose(torch.stack(scores), ((first + second) / 2).softmax(1), atol=1e-6)


@pytest.mark.parametrize('batch', [1, 2, 3, 4])
def test_one_pooled_feature_goes_to_both(batch):
    """A batch of two or three is not taken for two tokens, or for three."""
    head, feature = DeiTDistillHead(5, 8), torch.randn(batch, 8)
    assert torch.equal(head((feature, )), head(((feature, feature), )))
    assert head((feature, )).shape == (batch, 5)


def test_the_label_loss_is_of_the_class_head():
    head = DeiTDistillHead(5, 8, loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'))
    tokens = torch.randn(4, 8), torch.randn(4, 8)
    loss = head.loss((tokens, ), labelled(4))['loss']
    wanted = nn.functional.cross_entropy(head.layers.head(tokens[0]), torch.arange(4), label_smoothing=0.1)
    assert torch.allclose(loss, wanted)
    loss.backward()
    assert head.layers.head.weight.grad.any() and head.layers.head_dist.weight.grad is None


def test_a_hidden_layer_serves_both():
    head = DeiTDistillHead(5, 8, hidden_dim=6)
    a, b = torch.randn(2, 8), torch.randn(2, 8)
    hidden = [torch.tanh(head.layers.pre_logits(each)) for each in (a, b)]
    wanted = (head.layers.head(hidden[0]) + head.layers.head_dist(hidden[1])) / 2
    assert torch.equal(head(((a, b), )), wanted)


def test_starts_small():
    head = DeiTDistillHead(1000, 192)
    head.init_weights()
    for layer in (head.layers.head, head.layers.head_dist):
        assert layer.weight.std().item() == pytest.approx(.02, rel=.02) and not layer.bias.any()
    assert not torch.equal(head.layers.head.weight, head.layers.head_dist.weight)


def test_a_checkpoint_with_one_head_starts_both():
    arch = dict(embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_sizes=(7, 4, 4, 4))
    model = dict(type='ImageClassifier', backbone=dict(type='mmtinyvit.TinyViT', arch=arch))
    one = MODELS.build(model | dict(head=dict(type='LinearClsHead', num_classes=5, in_channels=16))).eval()
    two = MODELS.build(model | dict(head=dict(type='mmtinyvit.DeiTDistillHead', num_classes=5, in_channels=16))).eval()
    two.load_state_dict(one.state_dict(), strict=True)
    inputs = torch.randn(2, 3, 32, 32)
    assert torch.allclose(two(inputs), one(inputs), atol=1e-6)
    own = {name: value.clone() for name, value in two.state_dict().items()}
    own['head.layers.head_dist.bias'] += 1
    two.load_state_dict(own, strict=True)  # a checkpoint with two heads stays as it is
    assert torch.allclose(two(inputs), one(inputs) + .5, atol=1e-5)
