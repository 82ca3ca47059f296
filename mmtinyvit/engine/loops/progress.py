"""Progress of a saving: a bar in a terminal, a line now and then in a log."""
import logging
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ['SavingProgress']

LOG_EVERY_SECONDS = 30
LOOK_EVERY_SECONDS = 10


class SavingProgress(Progress):
    """Shows the rate and the time left, on rank 0.

    Args:
        logger: For runs without a terminal.
        rank: This process.
        world_size: Processes that share the work; the others are taken to be as fast as this one.
        total: Views of samples to go, over all processes.
    """

    def __init__(self, logger: logging.Logger, rank: int, world_size: int, total: int) -> None:
        console = Console(stderr=True)
        count, rate = '{task.completed:,.0f}/{task.total:,.0f} views', '{task.fields[rate]:,.0f}/s'
        super().__init__(TextColumn('saving'), BarColumn(), TextColumn(count), TextColumn(rate), TimeElapsedColumn(),
                         TimeRemainingColumn(), console=console, disable=rank != 0 or not console.is_terminal)
        self.logger, self.logs, self.world_size = logger, rank == 0 and self.disable, world_size
        self.total, self.done, self.task = total, 0, self.add_task('saving', total=total, rate=0.)
        self.begun = self.logged = self.looked = time.monotonic()

    def count(self, saved: int) -> None:
        """Count ``saved`` more views of samples, saved by this process."""
        self.done = min(self.done + saved * self.world_size, self.total)
        now = time.monotonic()
        rate = self.done / max(now - self.begun, 1e-9)
        self.update(self.task, completed=self.done, rate=rate)
        if self.logs and now - self.logged > LOG_EVERY_SECONDS:
            self.logged = now
            self.logger.info(f'saved {self.done:,} of {self.total:,} views, {rate:,.0f}/s, '
                             f'{(self.total - self.done) / max(rate, 1e-9) / 60:,.0f} min left')

    def look(self, missing: Callable[[], int]) -> None:
        """Count what other jobs have saved too, now and then, by the views of samples ``missing`` in the store."""
        if time.monotonic() - self.looked > LOOK_EVERY_SECONDS:
            self.done = max(self.total - missing(), 0)
            self.looked = time.monotonic()
