"""What is made from a parameter once, and made again when the parameter has changed."""
import copy
import pickle

import torch
from torch import nn

from mmtinyvit.models.backbones.derived import Derived


class Doubled:
    """Twice a parameter, and how often it was computed."""

    def __init__(self):
        self.weight, self.derived, self.times = nn.Parameter(torch.randn(3)), Derived(), 0

    def get(self, key: str = 'key') -> torch.Tensor:
        return self.derived.get(key, self.weight, self.make)

    def make(self) -> torch.Tensor:
        self.times += 1
        return self.weight * 2

    def check(self, times: int) -> None:
        for _ in range(2):
            assert torch.equal(self.get(), self.weight * 2) and self.times == times


def test_it_is_made_again_after_every_change():
    doubled = Doubled()
    doubled.check(1)
    with torch.no_grad():
        doubled.weight.add_(1.)
    doubled.check(2)
    doubled.weight = nn.Parameter(doubled.weight + 1.)
    doubled.check(3)
    doubled.weight = nn.Parameter(doubled.weight + 1.)  # as old as the one before, at another address
    doubled.check(4)
    doubled.weight.data = torch.randn(3)
    doubled.check(5)
    doubled.weight.data.mul_(3.)  # which nobody can see
    doubled.derived.clear()
    doubled.check(6)


def test_keys_are_apart():
    doubled = Doubled()
    assert doubled.get('one') is not doubled.get('other') and doubled.times == 2
    doubled.get('one'), doubled.get('other')
    assert doubled.times == 2


def test_it_holds_normal_tensors_without_gradients():
    doubled = Doubled()
    with torch.inference_mode():
        made = doubled.get()
    assert not made.is_inference() and not made.requires_grad and doubled.get() is made


def test_nothing_is_kept_of_a_tensor_whose_changes_are_not_counted():
    with torch.inference_mode():
        doubled = Doubled()
        for factor in (1., 2.):
            doubled.weight.mul_(factor)
            assert torch.equal(doubled.get(), doubled.weight * 2)


def test_copies_and_pickles_are_empty():
    doubled = Doubled()
    doubled.get()
    for other in (copy.deepcopy(doubled), pickle.loads(pickle.dumps(doubled))):
        assert other.derived is not doubled.derived
        other.check(2)
