import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from mmtinyvit.datasets import SeededAugment
from mmtinyvit.datasets.clock import EpochClock, iter_transforms, set_view
from mmtinyvit.errors import UserError


class Told(Dataset):
    """Says what its clock says, wherever it lives."""

    def __init__(self) -> None:
        self.augment = SeededAugment([])
        self.pipeline = SimpleNamespace(transforms=[self.augment])

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return self.augment.clock.view


def test_running_workers_see_the_clock():
    dataset = Told()
    loader = DataLoader(dataset, num_workers=1, persistent_workers=True)  # spawned ones: see test_seeded_augment.py
    seen = []
    for view in (3, 0, 7):
        assert set_view(dataset, view) == 1
        seen.append(torch.cat(list(loader)).tolist())
    assert seen == [[3] * 4, [0] * 4, [7] * 4]


def test_copies_are_the_same_clock():
    clock = EpochClock()
    copied = copy.deepcopy(dict(clock=[clock]))['clock'][0]
    clock.view = 5
    assert copied.view == 5


def test_a_clock_nobody_set_says_who_should():
    with pytest.raises(UserError, match='SparseLogitDistillHook.*EpochClockHook'):
        EpochClock().view  # noqa: B018


def test_a_fresh_augment_pickles_with_its_clock():
    augment = pickle.loads(pickle.dumps(SeededAugment([])))
    augment.clock.view = 2
    assert augment.clock.view == 2


def test_set_view_reaches_through_wrappers():
    first, second, nested = Told(), Told(), Told()
    nested.pipeline = SimpleNamespace(transforms=[SimpleNamespace(transforms=[[nested.augment]])])
    wrapped = ConcatDataset([Subset(first, [0])])
    wrapped.datasets += [SimpleNamespace(dataset=second), nested]
    assert set_view(wrapped, 6) == 3
    assert [each.augment.clock.view for each in (first, second, nested)] == [6, 6, 6]
    assert len([t for t in iter_transforms(wrapped) if isinstance(t, SeededAugment)]) == 3


def test_set_view_counts_nothing_where_nothing_is():
    assert set_view(SimpleNamespace(pipeline=None), 1) == 0
