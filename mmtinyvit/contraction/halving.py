"""Successive halving, side by side: weak candidates stop early, and the outcome does not depend on who is done first.

The rule is Optuna's ``SuccessiveHalvingPruner`` (Li et al., ASHA, MLSys 2020, https://arxiv.org/abs/1810.05934): a
candidate goes on beyond a rung if it is among the best 1/eta of those that have come to it. Here candidates are asked
about in their order, whichever has been trained first. So one process decides as eight do, and a search that was
stopped decides as one that was not.
"""
import math
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from typing import Any

from mmtinyvit.errors import UserError

from .trials import Judgement

__all__ = ['Contest', 'Rungs', 'import_optuna']


def import_optuna() -> Any:
    """The module ``optuna``, silent. Raises :class:`UserError` if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise UserError('A contraction needs Optuna, which is not installed: pip install "mmtinyvit[contract]".'
                        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@dataclass(frozen=True)
class Rungs:
    """The epochs after which candidates are judged.

    Args:
        epochs: Of a whole short training.
        first: After which the weakest stop.
        eta: One in so many goes on; each rung is so many times the one before.
    """
    epochs: int
    first: int = 1
    eta: int = 3

    @property
    def ends(self) -> list[int]:
        """Ascending; the last is :attr:`epochs`."""
        ends, end = [], self.first
        while end < self.epochs:
            ends.append(end)
            end *= self.eta
        return [*ends, self.epochs]


@dataclass
class Contest:
    """Candidates, trained side by side until all have stopped or come to the last rung.

    Args:
        rungs: When they are judged.
        count: How many there are; they are called 0 to ``count`` - 1.
        train: Starts or goes on with a candidate up to the end of a rung, in some process:
            ``train(executor, number, epoch)``.
        judged: Told of each judgement as it comes: ``judged(number, epoch, judgement)``.
        decided: Told of each decision, in the order of the candidates: ``decided(number, epoch, value, goes_on)``.
    """
    rungs: Rungs
    count: int
    train: Callable[[Executor, int, int], 'Future[Judgement]']
    judged: Callable[[int, int, Judgement], None]
    decided: Callable[[int, int, float, bool], None]
    values: list[list[float]] = field(init=False)

    def __post_init__(self) -> None:
        optuna = import_optuna()
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=self.rungs.first, reduction_factor=self.rungs.eta)
        study = optuna.create_study(direction='minimize', pruner=pruner, storage=optuna.storages.InMemoryStorage())
        self.trials = [study.ask() for _ in range(self.count)]
        self.values = [[] for _ in range(self.count)]  # of each rung that was decided about
        self.waiting: dict[tuple[int, int], float] = {}  # judgements of (candidate, rung) that are not decided yet
        self.stopped = [False] * self.count

    def run(self, executor: Executor, jobs: int) -> list[int]:
        """Train ``jobs`` candidates at a time; returns all, the best first.

        Of those that came equally far, who is judged better is better. One that stopped earlier stands right behind the
        last of those that came further and were better when it stopped: the first candidates go on in any case, and
        need not be good.
        """
        running: dict[Future, tuple[int, int]] = {}
        ready = [(number, 0) for number in range(self.count)]
        while ready or running:
            while ready and len(running) < jobs:
                number, rung = ready.pop(0)
                running[self.train(executor, number, self.rungs.ends[rung])] = number, rung
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                number, rung = running.pop(future)
                judgement = future.result()
                self.judged(number, self.rungs.ends[rung], judgement)
                self.waiting[number, rung] = judgement.value
            ready = sorted([*ready, *self._decide()], key=lambda task: (-task[1], task[0]))
        order: list[int] = []
        for rung in reversed(range(len(self.rungs.ends))):
            stopped = [number for number in range(self.count) if len(self.values[number]) == rung + 1]
            for number in sorted(stopped, key=lambda number: self.values[number][rung]):
                better = [place for place, other in enumerate(order)
                          if self.values[other][rung] <= self.values[number][rung]]
                order.insert(better[-1] + 1 if better else 0, number)
        return order

    def _decide(self) -> list[tuple[int, int]]:
        """Decide about all judgements whose turn it is; the tasks of those that go on."""
        tasks, turn = [], self._turn()
        while turn is not None:
            number, rung = turn
            value, epoch = self.waiting.pop(turn), self.rungs.ends[rung]
            self.values[number].append(value)
            self.trials[number].report(value, epoch)
            last = epoch == self.rungs.epochs
            self.stopped[number] = last or not math.isfinite(value) or self.trials[number].should_prune()
            self.decided(number, epoch, value, not self.stopped[number])
            if not self.stopped[number]:
                tasks.append((number, rung + 1))
            turn = self._turn()
        return tasks

    def _turn(self) -> tuple[int, int] | None:
        """A judgement before which nobody else will be judged on that rung."""
        return next((task for task in sorted(self.waiting) if all(
            self.stopped[before] or len(self.values[before]) > task[1] for before in range(task[0]))), None)
