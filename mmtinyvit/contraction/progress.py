"""Where a contraction is: a line that changes in a terminal, and lines in a log."""
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .report import UNITS
from .selection import Candidate
from .settings import Limits, Settings, Watcher
from .trials import Judgement

__all__ = ['ContractionProgress']


class ContractionProgress(Progress, Watcher):
    """Shows step, candidates, the best so far, and the time left; on stderr.

    The time left counts every candidate that is still to come like those before.
    """

    def __init__(self, settings: Settings) -> None:
        console = Console(stderr=True, highlight=False)
        super().__init__(TextColumn('{task.description}'), BarColumn(20), TextColumn('{task.completed:.0f}/'
                         '{task.total:.0f} candidates'), TimeElapsedColumn(), TimeRemainingColumn(),
                         console=console, disable=not console.is_terminal)
        self.settings, self.unit = settings, UNITS[settings.judge].split(' (')[0]
        self.best: tuple[float, str] | None = None
        self.ended = 0
        self.task = self.add_task('contraction', total=settings.steps * settings.candidates)

    def step(self, number: int, limits: Limits) -> None:
        self.best = None
        self.update(self.task, description=f'step {number} of {self.settings.steps}')
        self.console.print(f'Step {number} of {self.settings.steps}: {limits}', soft_wrap=True)

    def legal(self, number: int, count: int) -> None:
        self.console.print(f'  {count:,} neighbours have such a size; measuring the throughput of some')

    def chosen(self, number: int, candidates: Sequence[Candidate]) -> None:
        missing = self.settings.candidates - len(candidates)
        self.update(self.task, total=self.tasks[0].total - missing)
        self.console.print(f'  training {len(candidates)} candidates')

    def judged(self, candidate: Candidate, epoch: int, judgement: Judgement) -> None:
        self.console.print(f'  {candidate.name}: {self.unit} {judgement.value:.4f} after {epoch} epochs '
                           f'({judgement.seconds:.0f} s)', soft_wrap=True)

    def decided(self, candidate: Candidate, epoch: int, value: float, goes_on: bool) -> None:
        if self.best is None or value < self.best[0]:
            self.best = value, candidate.name
            self.update(self.task, description=f'{self.tasks[0].description.split(",")[0]}, best {value:.4f}')
        if not goes_on:
            self.advance(self.task)

    def kept(self, number: int, candidates: Sequence[Candidate]) -> None:
        for each in candidates:
            self.console.print(f'  kept: {each.name}, {each.parameters:,} parameters, {each.images_per_s:,.0f} '
                               'images/s', soft_wrap=True)
