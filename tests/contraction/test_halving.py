"""Successive halving: weak candidates stop early, and who is trained first makes no difference."""
import math
import random
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from mmtinyvit.contraction.executors import Here
from mmtinyvit.contraction.halving import Contest, Rungs
from mmtinyvit.contraction.trials import Judgement
from mmtinyvit.errors import UserError

RUNGS = Rungs(epochs=9, first=1, eta=3)
WORTH = [5., 3., 8., 1., 9., 4., 7., 2., 6., 5.5, 0.5, 3.5]


def contest(jobs: int, delays: random.Random | None = None) -> tuple[list[int], list[tuple], int]:
    """The order of the candidates, the decisions, and how many epochs were trained in all."""
    decisions, trained, lock = [], [0] * len(WORTH), threading.Lock()

    def step(number: int, epoch: int) -> Judgement:
        if delays:
            time.sleep(delays.random() / 200)
        with lock:
            assert epoch > trained[number]
            trained[number] = epoch
        return Judgement(WORTH[number] + 10 / epoch, 0.)

    def train(executor, number: int, epoch: int) -> Future:
        return executor.submit(step, number, epoch)

    with ThreadPoolExecutor(jobs) as executor:
        made = Contest(RUNGS, len(WORTH), train, lambda *_: None, lambda *decision: decisions.append(decision))
        return made.run(executor, jobs), sorted(decisions), sum(trained)


def test_the_best_win_and_the_weak_stop_early():
    order, decisions, epochs = contest(jobs=1)
    assert order[0] == 10 and WORTH[order[0]] == min(WORTH)  # it comes late, and is the best
    assert epochs < len(WORTH) * RUNGS.epochs / 2
    last = {number: epoch for number, epoch, _, goes_on in decisions if not goes_on}
    assert last.keys() == set(range(len(WORTH))) and last[10] == 9 and last[2] == last[4] == 1
    assert last[0] == 9 and WORTH[0] == 5  # the first goes on in any case, and is behind all that are better
    assert order == sorted(range(len(WORTH)), key=lambda number: WORTH[number])


@pytest.mark.parametrize('jobs', [2, 3, 8])
def test_side_by_side_decides_as_one_by_one(jobs):
    assert contest(jobs, random.Random(jobs)) == contest(1)


def test_a_training_that_blew_up_stops():
    made = Contest(RUNGS, 1, lambda executor, *_: executor.submit(Judgement, math.inf, 0.), lambda *_: None,
                   lambda *_: None)
    assert made.run(Here(), 1) == [0] and made.values == [[math.inf]]


def test_rungs():
    assert RUNGS.ends == [1, 3, 9] and Rungs(10, 2, 2).ends == [2, 4, 8, 10] and Rungs(1).ends == [1]


def test_without_optuna(monkeypatch):
    monkeypatch.setitem(sys.modules, 'optuna', None)
    with pytest.raises(UserError, match=r'needs Optuna, which is not installed: pip install "mmtinyvit\[contract\]"'):
        Contest(RUNGS, 2, None, None, None)
