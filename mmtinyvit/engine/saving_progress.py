"""The progress of a saving: a bar in a terminal, or lines in a log."""
import logging
import time
from collections.abc import Callable

from mmengine.dist import get_dist_info
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ['SavingProgress']

LOG_EVERY_SECONDS = 30  # of the progress, where there is no terminal
COUNT_EVERY_SECONDS = 10  # what other jobs have saved


class SavingProgress(Progress):
    """Shows the rate and the time left, on rank 0: a bar in a terminal, a line now and then in a log.

    Args:
        logger: For runs without a terminal.
        total: Views of samples to go, over all processes.
        alone: Whether this process counts all of them; otherwise those of its job are taken to be as fast.
    """

    def __init__(self, logger: logging.Logger, total: int, alone: bool = False) -> None:
        console, (rank, world_size) = Console(stderr=True), get_dist_info()
        self.world_size = 1 if alone else world_size
        count, rate = '{task.completed:,.0f}/{task.total:,.0f} views', '{task.fields[rate]:,.0f}/s'
        super().__init__(TextColumn('saving'), BarColumn(), TextColumn(count), TextColumn(rate), TimeElapsedColumn(),
                         TimeRemainingColumn(), console=console, disable=rank != 0 or not console.is_terminal)
        self.logger, self.logs = logger, rank == 0 and self.disable
        self.total, self.task = total, self.add_task('saving', total=total, rate=0.)
        self.saved = self.done = 0  # by this process; by all
        self.begun = self.logged = self.looked = time.monotonic()

    def count(self, saved: int) -> None:
        """Count ``saved`` more views of samples, saved by this process."""
        self.saved += saved
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
        if time.monotonic() - self.looked > COUNT_EVERY_SECONDS:
            self.done = max(self.total - missing(), 0)
            self.looked = time.monotonic()
