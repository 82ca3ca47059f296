"""Lengths, learning rates and seeds that the claims share, and a way to train with all of them."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .lab import Lab
from .photos import PHOTOS
from .recipes import LITE2, Training, save_store, teacher_model
from .step import Step

__all__ = ['LABELS', 'STORED', 'Arm', 'Size', 'best_rate', 'rate_tries']

STORED, LABELS = 'store, no labels', 'all labels'  # the names of rows


@dataclass(frozen=True)
class Size:
    """Lengths in epochs over the pool, and what is tried.

    Args:
        pretraining: From a store or from labels.
        finetuning: Afterwards, in images: as many as so many epochs over the pool have.
        lengths: Of the trainings that are compared over their length.
        seeds: Of the headlines.
        students: Names of :mod:`.networks`; most claims take the first.
        rates, finetuning_rates, few_rates, probing_rates: Of which each way to train gets its best; ``few_rates``
            are for finetuning on few labels with the head that there is.
        photos: Of the pool; None takes all.
        views: Of the main store.
        test_every: One in so many of the validation photos is tested.
        teacher_side: Pixels of the views as the teacher sees them.
    """
    pretraining: int = 40
    finetuning: int = 4
    lengths: tuple[int, ...] = (10, 40, 100)
    seeds: tuple[int, ...] = (0, 1, 2)
    students: tuple[str, ...] = ('0.26 M', '0.86 M')
    rates: tuple[float, ...] = (1e-3, 3e-3)
    finetuning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    few_rates: tuple[float, ...] = (3e-5, 1e-4, 3e-4, 1e-3)
    probing_rates: tuple[float, ...] = (3e-3, 3e-2)
    photos: int | None = None
    views: int = 8
    test_every: int = 1
    teacher_side: int = 160

    @staticmethod
    def of(lab: Lab) -> 'Size':
        """The size of a lab's claims."""
        if not lab.quick:
            return Size()
        return Size(2, 2, (2, ), (0, ), ('tiny', ), (1e-3, ), (1e-3, ), (1e-3, ), (1e-2, ), 50, 2, 125, 64)

    @property
    def indices(self) -> range:
        """The photos of the pool."""
        return range(0, PHOTOS, PHOTOS // (self.photos or PHOTOS))

    @property
    def subset(self) -> tuple[tuple[str, Any], ...]:
        """The same, as an argument of the dataset."""
        return () if self.photos is None else (('indices', list(self.indices)), )

    @property
    def pool(self) -> int:
        return len(self.indices)

    @property
    def base(self) -> Training:
        """A training from all labels, without a learning rate."""
        return Training(self.pretraining, 0., student=self.students[0], subset=self.subset, test_every=self.test_every)

    def share(self, share: float) -> float:
        """A share of the labels, or more of a pool so small that it would be of one photo."""
        return share if self.photos is None else max(share, 0.5)

    def store(self, *teachers: dict, title: str = 'store of Lite2', views: int | None = None, topk: int = 10,
              strong: bool = False) -> Step:
        """A store of the pool; by default the main one, of the Lite2 teacher."""
        return save_store(title, teachers or [self.teacher()], views or self.views, topk, photos=self.photos,
                          strong=strong)

    def teacher(self, name: dict = LITE2) -> dict:
        """A teacher's config."""
        return teacher_model(name, self.teacher_side)

    def stored_rate(self, lab: Lab) -> float:
        """The learning rate that is best for the main store."""
        return best_rate(lab, self, self.base.with_(store=self.store()), 'store')

    def label_rate(self, lab: Lab) -> float:
        """The learning rate that is best for all labels."""
        return best_rate(lab, self, self.base, 'labels')


@dataclass(frozen=True)
class Arm:
    """A way to train, for every rate and seed.

    Args:
        name: Of its steps.
        training: Without rate and seed.
        start: What each seed starts from.
        share: Of the photos, drawn anew in each seed.
    """
    name: str
    training: Training
    start: Sequence[Step] | None = None
    share: float | None = None

    def step(self, rate: float, seed: int) -> Step:
        """The training with one rate and seed."""
        subset = self.training.subset
        if self.share is not None:
            subset = (*subset, ('share', self.share), ('share_seed', seed))
        start = None if self.start is None else self.start[seed]
        return self.training.with_(rate=rate, seed=seed, subset=subset, start=start).step(self.name)

    def tries(self, rates: Sequence[float]) -> list[Step]:
        """The first seed with each rate."""
        return [self.step(rate, 0) for rate in rates]

    def seeds(self, lab: Lab, rates: Sequence[float], seeds: Sequence[int]) -> list[Step]:
        """All seeds with the rate that is best with the first; queued."""
        rate = lab.best(lambda rate: self.step(rate, 0), rates)
        steps = [self.step(rate, seed) for seed in seeds]
        lab.start(steps)
        return steps


def rate_tries(size: Size, training: Training, name: str) -> Arm:
    """The trainings that show which learning rate is best for a student: the others' are as short as any."""
    own = training.student == size.students[0]
    return Arm(name, training if own else training.with_(epochs=size.lengths[0]))


def best_rate(lab: Lab, size: Size, training: Training, name: str) -> float:
    """The learning rate that is best for a student, of those of the size."""
    arm = rate_tries(size, training, name)
    return lab.best(lambda rate: arm.step(rate, 0), size.rates)
