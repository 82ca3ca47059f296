"""Where a contraction is: a line that changes in a terminal, and lines in a log."""
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from .report import UNITS
from .selection import Candidate
from .settings import Limits, Settings, Watcher
from .trials import Judgement

__all__ = ['ContractionProgress']


class ContractionProgress(Progress, Watcher):
    """Shows step, candidates, the time left, and below them the best so far; on stderr.

    The time left counts every candidate that is still to come like those that this run has trained.
    """

    def __init__(self, settings: Settings) -> None:
        console = Console(stderr=True, highlight=False)
        self.settings, self.unit = settings, UNITS[settings.judge].split(' (')[0]
        self.best: tuple[float, str] | None = None  # of the step
        self.number = self.measured_ones = 0
        self.trained: set[str] = set()  # in this run and step
        self.ended, self.seconds, self.began = 0, 0., 0.
        super().__init__(TextColumn('{task.description}'), BarColumn(14), TextColumn('{task.completed:.0f}/'
                         '{task.total:.0f} candidates'), TimeElapsedColumn(), TextColumn('{task.fields[left]}'),
                         console=console, disable=not console.is_terminal)
        self.task = self.add_task('contraction', total=settings.steps * settings.candidates, left='')

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.best:
            yield Text(f'best: {self.best[1]}, {self.unit} {self.best[0]:.4f}')

    def waits(self) -> None:
        self.console.print('Another process searches in this folder: waiting for its end')

    def step(self, number: int, limits: Limits) -> None:
        self.best, self.number, self.measured_ones = None, number, 0
        self.update(self.task, description=f'step {number} of {self.settings.steps}')
        self.console.print(f'Step {number} of {self.settings.steps}: {limits}', soft_wrap=True)

    def legal(self, number: int, count: int) -> None:
        self.console.print(f'  {count:,} neighbours have such a size; measuring the throughput of some')

    def measured(self, count: int) -> None:
        self.measured_ones += count
        self.update(self.task, description=f'step {self.number} of {self.settings.steps}, {self.measured_ones} '
                    'measured')

    def chosen(self, number: int, candidates: Sequence[Candidate]) -> None:
        missing = self.settings.candidates - len(candidates)
        self.update(self.task, total=self.tasks[0].total - missing,
                    description=f'step {number} of {self.settings.steps}')
        self.trained, self.began = set(), time.monotonic()
        self.console.print(f'  training {len(candidates)} candidates')

    def judged(self, candidate: Candidate, epoch: int, judgement: Judgement) -> None:
        self.trained.add(candidate.name)
        self.console.print(f'  {candidate.name}: {self.unit} {judgement.value:.4f} after epoch {epoch} '
                           f'({judgement.seconds:.0f} s)', soft_wrap=True)

    def decided(self, candidate: Candidate, epoch: int, value: float, goes_on: bool) -> None:
        if self.best is None or value < self.best[0]:
            self.best = value, candidate.name
        if goes_on:
            return
        self.advance(self.task)
        if candidate.name in self.trained:
            now = time.monotonic()
            self.ended, self.seconds, self.began = self.ended + 1, self.seconds + now - self.began, now
            left = round(self.seconds / self.ended * (self.tasks[0].total - self.tasks[0].completed))
            self.update(self.task, left=f'{timedelta(seconds=left)} left')

    def kept(self, number: int, candidates: Sequence[Candidate]) -> None:
        for each in candidates:
            self.console.print(f'  kept: {each.name}, {each.parameters:,} parameters, {each.images_per_s:,.0f} '
                               'images/s', soft_wrap=True)
