"""What autocast makes of a final weight, kept from call to call."""
import copy
import pickle

import pytest
import torch
from torch import nn

from mmtinyvit.models.backbones.cast_weight import CastWeight
from mmtinyvit.models.backbones.token_linear import TokenLinear


@pytest.fixture
def weight():
    torch.manual_seed(0)
    return nn.Parameter(torch.randn(4, 3))


def cast_of(cast: CastWeight, weight: torch.Tensor, dtype=torch.bfloat16) -> torch.Tensor:
    with torch.inference_mode(), torch.autocast('cpu', dtype):
        return cast(weight)


def test_it_is_cast_once(weight):
    cast = CastWeight()
    first = cast_of(cast, weight)
    assert torch.equal(first, weight.bfloat16()) and cast_of(cast, weight) is first
    assert cast_of(cast, weight, torch.float16).dtype == torch.float16


def test_a_changed_weight_is_cast_again(weight):
    cast = CastWeight()
    cast_of(cast, weight)
    for change in (lambda: weight.add_(1), lambda: weight.copy_(torch.randn(4, 3)), lambda: weight.mul_(2)):
        with torch.no_grad():
            change()
        assert torch.equal(cast_of(cast, weight), weight.bfloat16())
    for other in (nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4, 3))):  # of the same version
        assert torch.equal(cast_of(cast, other), other.bfloat16())


def test_elsewhere_the_weight_is_left_alone(weight):
    cast = CastWeight()
    assert cast(weight) is weight
    with torch.no_grad():
        assert cast(weight) is weight
    with torch.autocast('cpu', torch.bfloat16):
        assert cast(weight) is weight  # it may want a gradient
    with torch.inference_mode():
        born = torch.randn(4, 3)
    double = weight.double()
    assert cast_of(cast, born) is born and cast_of(cast, double) is double


def test_copies_do_without(weight):
    cast = CastWeight()
    cast_of(cast, weight)
    for other in (copy.deepcopy(cast), pickle.loads(pickle.dumps(cast))):
        assert other._held is None


@pytest.mark.parametrize('tokens', [5, 2000])
def test_a_linear_layer_gives_the_same(tokens):
    layer, x = TokenLinear(6, 4), torch.randn(tokens, 6)
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
        expected = layer(x)
        layer.fuse()
        assert torch.equal(layer(x), expected) and torch.equal(layer(x), expected)
    layer.load_state_dict({name: 2 * value for name, value in layer.state_dict().items()})
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(layer(x), 2 * expected)
    assert set(layer.state_dict()) == {'weight', 'bias'}


@pytest.mark.parametrize('size', [(48, 40), (64, 64)])
def test_a_fused_model_gives_the_same_in_bfloat16(tiny, size):
    model, images = tiny().eval().fuse(), torch.randn(2, 3, *size)
    with torch.autocast('cpu', torch.bfloat16):
        with torch.no_grad():
            first, again = model(images)[0], model(images)[0]
        for module in model.modules():
            if getattr(module, 'cast', None) is not None:
                assert module.cast._held is not None
                module.cast = lambda weight: weight
        with torch.no_grad():
            plain = model(images)[0]
    assert torch.equal(first, again) and torch.equal(first, plain)
