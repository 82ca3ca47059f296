"""Progress of a saving: a bar in a terminal, a line now and then in a log."""
import logging
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ['SavingProgress']

LOG_EVERY_SECONDS = 30
LOOK_EVERY_SECONDS = 10


class SavingProgress:
    """Shows the rate and the time left, on rank 0.

    Args:
        logger: For runs without a terminal.
        rank: This process.
        world_size: Processes that share the work; the others are taken to be as fast as this one.
    """

    def __init__(self, logger: logging.Logger, rank: int, world_size: int) -> None:
        console = Console(stderr=True)
        self.logger, self.rank, self.world_size = logger, rank, world_size
        count, rate = '{task.completed:,.0f}/{task.total:,.0f} views', '{task.fields[rate]:,.0f}/s'
        self.bar = Progress(TextColumn('saving'), BarColumn(), TextColumn(count), TextColumn(rate), TimeElapsedColumn(),
                            TimeRemainingColumn(), console=console, disable=rank != 0 or not console.is_terminal)
        self.total = self.done = 0
        self.start = self.logged = time.monotonic()

    def __enter__(self) -> 'SavingProgress':
        self.bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.bar.stop()

    def begin(self, total: int) -> None:
        """Start with ``total`` views of samples to go, over all processes."""
        self.total = total
        self.start = self.logged = self.looked = time.monotonic()
        self.task = self.bar.add_task('saving', total=total, rate=0.)

    def advance(self, count: int) -> None:
        """Count ``count`` more, saved by this process."""
        self.done = min(self.done + count * self.world_size, self.total)
        now = time.monotonic()
        rate = self.done / max(now - self.start, 1e-9)
        self.bar.update(self.task, completed=self.done, rate=rate)
        if self.rank == 0 and self.bar.disable and now - self.logged > LOG_EVERY_SECONDS:
            self.logged = now
            self.logger.info(f'saved {self.done:,} of {self.total:,} views, {rate:,.0f}/s, '
                             f'{(self.total - self.done) / max(rate, 1e-9) / 60:,.0f} min left')

    def look(self, missing: Callable[[], int]) -> None:
        """Count what processes of other jobs have saved as well, if the last look is a while ago.

        Args:
            missing: Says how many views of samples the store lacks.
        """
        if time.monotonic() - self.looked > LOOK_EVERY_SECONDS:
            self.done = max(self.total - missing(), 0)
            self.looked = time.monotonic()
