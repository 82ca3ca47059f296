"""The lab carries out steps, several at a time, and hands out their results."""
import gc
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from mmtinyvit.errors import UserError

from .step import Step
from .worker import carry_out

__all__ = ['Lab', 'Pending']

Result = dict[str, Any]


class Pending(Exception):
    """A result that is not there, where nothing is to be run."""


@dataclass
class Lab:
    """Where steps are carried out.

    Args:
        root: Folder of all steps.
        data: MMTINYVIT_DATA.
        jobs: Steps at a time, each a process of its own with one thread for its share of the processors.
        threads: Of each process.
        quick: Shortens everything, to see that a claim runs, and takes one step after the other in this process.
        run: Whether to carry out what is missing; otherwise asking for it raises :class:`Pending`.
        end: Of ``time.monotonic``; no step is begun after it, and asking for one raises :class:`UserError`.
        used, titles: Of the steps whose results were asked for, by key.
    """
    root: Path
    data: Path
    jobs: int = 2
    threads: int = 1
    quick: bool = False
    run: bool = True
    end: float = math.inf
    used: dict[str, Result] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pool = ThreadPoolExecutor(1 if self.quick else self.jobs)
        self.futures: dict[str, Future] = {}
        self.stopped = False

    def results(self, steps: Sequence[Step]) -> list[Result]:
        """The results of several steps, in order; those that are missing are carried out side by side.

        Raises:
            UserError: A step failed; names its log.
            Pending: One is missing and nothing is to be run.
        """
        futures = [self._start(step) for step in steps]
        found = [future.result() for future in futures]
        self.used |= {step.key: result for step, result in zip(steps, found, strict=True)}
        self.titles |= {step.key: step.title for step in steps}
        return found

    def start(self, steps: Sequence[Step]) -> None:
        """Queue steps whose results are asked for later."""
        for step in steps if self.run else ():
            self._start(step)

    def best(self, make: Callable[[float], Step], rates: Sequence[float]) -> float:
        """The learning rate of ``rates`` whose step ``make(rate)`` is right most often on the photos for choosing."""
        if len(rates) == 1:
            return rates[0]
        results = self.results([make(rate) for rate in rates])
        return max(zip(rates, results, strict=True), key=lambda pair: pair[1]['choosing'])[0]

    def stop(self) -> None:
        """Start nothing more."""
        self.stopped = True
        self.pool.shutdown(wait=False, cancel_futures=True)

    def stop_in_time(self) -> None:
        """Raises :class:`UserError` after the end."""
        if time.monotonic() > self.end:
            raise UserError('The --budget is used up, and what was done is kept: the same command goes on.')

    def _start(self, step: Step) -> Future:
        """The step's result to come; it is queued when it is first asked for, unless it is finished."""
        if step.key not in self.futures:
            result = step.result(self.root)
            future = self.futures[step.key] = Future()
            if result is not None:
                future.set_result(result)
            elif self.run:
                self._queue(step, [self._start(need) for need in step.needs], future)
            else:
                future.set_exception(Pending(step.title))
        return self.futures[step.key]

    def _queue(self, step: Step, needs: Sequence[Future], future: Future) -> None:
        """Queue the step once all that it needs is there: no place of the pool waits for another."""
        missing = next((need for need in needs if not need.done()), None)
        if missing is not None:
            missing.add_done_callback(lambda _: self._queue(step, needs, future))
        elif self.stopped:
            future.cancel()
        else:
            self.pool.submit(self._carry_out, step, needs).add_done_callback(lambda done: _pass_on(done, future))

    def _carry_out(self, step: Step, needs: Sequence[Future]) -> Result:
        for need in needs:
            need.result()
        if self.stopped:
            raise UserError('Interrupted.')
        self.stop_in_time()
        folder = step.prepare(self.root, self.data)
        self._do(step, folder)
        result = step.result(self.root)
        shown = f'{result["top1"]:.1f} %' if 'top1' in result else 'done'
        queued = sum(not future.done() for future in list(self.futures.values())) - 1  # without this one
        Console().print(f'{step.title}: {shown}, {result["cpu_seconds"]:.0f} s of processor time; {queued} more to do '
                        'so far', highlight=False)
        return result

    def _do(self, step: Step, folder: Path) -> None:
        if self.quick:
            gc.freeze()  # each dataset collects garbage, which takes longer than a training of a few photos
            carry_out(folder, self.threads)
            return
        command = [sys.executable, str(Path(__file__).parents[1] / 'claims.py'), '--step', str(folder),
                   '--threads', str(self.threads)]
        with (folder / 'log.txt').open('a') as log:
            status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False, env=os.environ | dict(
                OMP_NUM_THREADS=str(self.threads), MKL_NUM_THREADS=str(self.threads))).returncode
        if status or step.result(self.root) is None:
            raise UserError(f'{step.title} failed: see {folder}/log.txt. The same command goes on where it stopped.')


def _pass_on(done: Future, to: Future) -> None:
    """What came out of one is what comes out of the other."""
    if done.cancelled():
        to.cancel()
    elif done.exception() is not None:
        to.set_exception(done.exception())
    else:
        to.set_result(done.result())
