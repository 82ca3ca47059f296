"""What a classifier sees before its last layer, and models that have no such thing."""
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from tiny_flow import student
from torch import nn

from mmtinyvit.apis.networks import pre_logits
from mmtinyvit.errors import UserError

IMAGES = torch.randn(2, 3, 32, 32)


def classifier(**changes) -> nn.Module:
    init_default_scope('mmpretrain')
    return MODELS.build(student() | dict(type='ImageClassifier') | changes).eval()


def test_the_last_layer_gives_the_logits_of_what_it_sees():
    model = classifier()
    found = pre_logits(model, IMAGES)
    assert found.shape == (2, 16)
    torch.testing.assert_close(model.head.fc(found), model(IMAGES), rtol=0, atol=0)


def test_timm():
    init_default_scope('mmpretrain')
    model = MODELS.build(dict(type='TimmClassifier', model_name='mobilenetv2_035', pretrained=False)).eval()
    found = pre_logits(model, IMAGES)
    torch.testing.assert_close(model.model.classifier(found), model(IMAGES), rtol=0, atol=0)


@pytest.mark.parametrize('model', [lambda: classifier(head=None), lambda: nn.Conv2d(3, 4, 1)], ids=['headless', 'conv'])
def test_models_without_a_last_layer(model):
    model = model()
    with pytest.raises(UserError, match=f'^{type(model).__name__} gives no features before its last layer: use an '
                                        'ImageClassifier or a TimmClassifier, with a head.$'):
        pre_logits(model, IMAGES)


def test_errors_of_the_model_itself_are_not_hidden(monkeypatch):
    model = classifier()

    def broken(inputs):
        raise TypeError('a bug')

    monkeypatch.setattr(model.backbone, 'forward', broken)
    with pytest.raises(TypeError, match='a bug'):
        pre_logits(model, IMAGES)


def test_maps_are_not_features():
    model = classifier(backbone=student()['backbone'] | dict(gap_before_output=False))
    with pytest.raises(UserError, match='gives features of shape .* add a pooling neck'):
        pre_logits(model, IMAGES)
