"""What a search is asked for, the limits of its steps, and who is told how far it is."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .halving import Rungs
from .selection import Candidate
from .trials import Judgement

__all__ = ['Limits', 'Settings', 'Watcher']


@dataclass(frozen=True)
class Settings:
    """What a search depends on, besides the recipe.

    Args:
        parameters: The target: at most so many, with the head.
        classes: See :class:`.Recipe`.
        throughput: The target in images per second, or in times the seed's if ``relative``; None has no limit.
        steps: Between the seed and the target, of equal ratios.
        slack: A step's candidates have at least 1 - ``slack`` of its limit of parameters.
        moves, reach: See :meth:`.Space.neighbours`.
        measured: Legal candidates whose throughput is measured, in each step.
        candidates: That are trained, in each step.
        keep: The bases of the next step.
        epochs, first_rung, eta: See :class:`.Rungs`.
        judge: One of :data:`~.judge.JUDGES`.
        held_out: Share of the keys to judge by.
        share: Of the other keys, to learn from.
        inherit: Children start from the overlapping weights of their base.
        checkpoint: Of the seed, for its children to inherit.
        factors, values: See :meth:`.Space.around`.
        device, batch_size: Of :class:`.Throughput`.
        amp: Train with automatic mixed precision.
        seed: Of every draw.
    """
    parameters: int
    classes: int | None = None
    throughput: float | None = None
    relative: bool = True
    steps: int = 3
    slack: float = 0.1
    moves: int = 4
    reach: int = 4
    measured: int = 48
    candidates: int = 12
    keep: int = 2
    epochs: int = 9
    first_rung: int = 1
    eta: int = 3
    judge: str = 'divergence'
    held_out: float = 0.01
    share: float = 1.
    inherit: bool = False
    checkpoint: str | None = None
    factors: Sequence[str] | None = None
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    device: str = 'cpu'
    batch_size: int = 32
    amp: bool = False
    seed: int = 0

    @property
    def rungs(self) -> Rungs:
        return Rungs(self.epochs, self.first_rung, self.eta)


@dataclass(frozen=True)
class Limits:
    """Of a step: parameters between two numbers, and at least so many images per second."""
    fewest: float
    most: float
    images_per_s: float

    def __str__(self) -> str:
        speed = f' and at least {self.images_per_s:,.0f} images/s' if self.images_per_s else ''
        return f'{self.fewest:,.0f} to {self.most:,.0f} parameters{speed}'


class Watcher:
    """Is told what a search does; does nothing with it."""

    def waits(self) -> None:
        """Another process searches in the same folder."""

    def step(self, number: int, limits: Limits) -> None:
        """A step begins."""

    def legal(self, number: int, count: int) -> None:
        """A step has so many candidates with the right number of parameters, of which some will be measured."""

    def measured(self, count: int) -> None:
        """The throughput of so many more is known."""

    def chosen(self, number: int, candidates: Sequence[Candidate]) -> None:
        """A step has its candidates."""

    def judged(self, candidate: Candidate, epoch: int, judgement: Judgement) -> None:
        """A candidate was trained and judged."""

    def decided(self, candidate: Candidate, epoch: int, value: float, goes_on: bool) -> None:
        """A candidate goes on or has come to its end; of earlier runs of the same search, too."""

    def kept(self, number: int, candidates: Sequence[Candidate]) -> None:
        """A step has ended."""
