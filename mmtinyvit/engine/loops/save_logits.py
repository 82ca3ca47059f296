"""SaveLogitsLoop: run the teacher once over every view, and write down what it says."""
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.runner import BaseLoop, Runner
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.data import DataLoader

from mmtinyvit.datasets import ViewsAtOnce
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import ClassList
from mmtinyvit.models.classifiers.teachers import fill_teacher
from mmtinyvit.registry import LOOPS
from mmtinyvit.store import LogitStore, LogitWriter, Record, Unit

from ..record_rule import RecordRule
from ..runner import TeacherRunner
from ..store_check import check_canaries, join_store, request_manifest
from ..teacher import Teacher

__all__ = ['SaveLogitsLoop']

LOG_EVERY_SECONDS = 30  # of the progress, where there is no terminal
COUNT_EVERY_SECONDS = 10  # what other jobs have saved


@LOOPS.register_module()
class SaveLogitsLoop(BaseLoop):
    """Save sparse teacher logits for every view of every sample; ``test_cfg`` of a teacher's config.

    Work is shared out by shards, claimed in the store's lock file: any number of processes, no coordinator, and what a
    dead process leaves is taken up by the others. Batches never cross a shard, so the bytes of a shard do not depend
    on who computes it. Started again, it does only what is missing.

    Args:
        runner: The runner; its model is the teacher.
        dataloader: Config with ``dataset``, ``batch_size`` and ``num_workers``; its sampler is not used. The pipeline
            has one ``SeededAugment`` and ends in ``PackViewInputs``.
        store: Folder of the store; None for the ``store`` that the config names at its top level, as for a student.
        views: First view, and the one after the last.
        topk: K.
        num_classes: C; by default what the teacher has.
        codec: See ``mmtinyvit/store/README.md``.
        samples_per_shard: Size of the unit of work; by default it suits the dataset.
        mixing: Arguments of ``SeededMixing``; None saves views of single images.
        keep_mass: Keep only the most probable classes that together hold this mass, at most K; with the codec
            ``smallest``.
        sampling: ``dict(draws=50, power=1.0)`` draws classes instead of taking the top K: see :class:`RecordRule`.
        reference_view: With the codec ``smallest``, the view that the others are coded relative to; by default 0.
        classes: What the teacher's classes are called: a label layout such as ``'in1k'``, a file with a name per line,
            or a list; by default what its checkpoint or timm says. The store keeps the names; without them, it is not
            known which of the teacher's classes a label is.
        amp: Run the teacher under autocast: bfloat16 on a CPU, float16 on a GPU.
        views_at_once: How many views of an image to make whenever it is read and decoded: saves time where the loading
            of images is what limits the saving, and takes memory for as many batches. The store is the same.
        join: Work beside other jobs that join, started by anybody at any time; without it, a second job is refused.
        evaluator: Not used; MMEngine passes one.
    """

    def __init__(self,
                 runner: Runner,
                 dataloader: dict,
                 store: str | None = None,
                 views: tuple[int, int] = (0, 1),
                 topk: int = 100,
                 num_classes: int | None = None,
                 codec: str = 'compact',
                 samples_per_shard: int | None = None,
                 mixing: dict | None = None,
                 amp: bool = False,
                 keep_mass: float | None = None,
                 sampling: dict | None = None,
                 reference_view: int | None = None,
                 classes: ClassList | None = None,
                 views_at_once: int = 1,
                 join: bool = False,
                 evaluator: object = None) -> None:
        self._runner = runner
        self.store_path = runner.cfg.get('store') if store is None else store
        if self.store_path is None:
            raise UserError('SaveLogitsLoop has no store: set store= at the top level of the config.')
        if not isinstance(views, Sequence) or [type(view) for view in views] != [int, int]:
            raise UserError(f'views={views!r} is no pair of numbers: write (first, end), for example (0, 90).')
        self.views = range(*views)
        if not self.views or self.views.start < 0:
            raise UserError(f'views={views[0]}:{views[1]} names no view: write first:end, for example 0:90.')
        if views_at_once < 1 or (views_at_once > 1 and mixing):
            raise UserError(f'views_at_once={views_at_once} must be 1 or more, and 1 with mixing, whose partners '
                            'change from view to view.')
        self.views_at_once = views_at_once
        self.settings = dict(num_classes=num_classes, codec=codec, samples_per_shard=samples_per_shard,
                             reference_view=reference_view, classes=classes)
        self.join = join
        self.batch_size, self.num_workers = dataloader['batch_size'], dataloader.get('num_workers', 0)
        rule = RecordRule(topk, keep_mass, sampling)
        self.teacher = Teacher(runner.model, dataloader['dataset'], rule, mixing, amp)

    def run(self) -> dict[str, float]:
        """Save what is missing.

        Returns:
            dict: ``samples`` (views of samples saved by this process), ``seconds`` and ``bytes_per_view``.
        """
        config = self.runner.cfg.get('model', {})
        if not (self.runner._has_loaded or isinstance(self.runner, TeacherRunner)):  # a runner of MMEngine's own
            fill_teacher(self.teacher.model, config, self.runner.cfg.get('random_teacher', False))
        request = request_manifest(self.teacher, self.views.start, config, **self.settings)
        start = time.perf_counter()
        with join_store(self.store_path, request, self.teacher, self.views, self.join) as writer:
            store = LogitStore(self.store_path)
            done = store.complete_views()
            if done:  # going on with a store: the libraries must still make the same pixels
                check_canaries(store, self.teacher.dataset.dataset, done[-1:], 2)
            with _Progress(self.runner.logger, self._missing(writer)) as progress:
                # What other processes hold is waited for, in case they die.
                for unit in writer.missing(self.views, *get_dist_info(), wait=True):
                    if writer.claim(unit):  # there is something to do, at least this
                        self._save_claimable(writer, progress)
        seconds = time.perf_counter() - start
        size = store.bytes_per_view
        self.runner.logger.info(f'{self.store_path}: {progress.saved:,} views of samples saved by this process in '
                                f'{seconds:.0f} s, {size:g} bytes each')
        return dict(samples=progress.saved, seconds=seconds, bytes_per_view=size)

    def _missing(self, writer: LogitWriter) -> int:
        """Views of samples that the store lacks."""
        return sum(unit.count for unit in set(writer.missing(self.views)))  # a set: shards that end meanwhile repeat it

    def _save_claimable(self, writer: LogitWriter, progress: '_Progress') -> None:
        """One round over the shards that nobody else holds."""
        in_flight: deque[tuple[list[_Shard], np.ndarray]] = deque()
        loader = DataLoader(
            ViewsAtOnce(self.teacher.dataset),
            batch_sampler=self._batches(writer, in_flight),
            num_workers=self.num_workers,
            collate_fn=self.teacher.collate_views,
            pin_memory=torch.cuda.is_available())
        writing: deque[Future] = deque()
        with ThreadPoolExecutor(1) as disk:  # packing and writing overlap with the teacher
            for batches in loader:
                shards, positions = in_flight.popleft()
                for shard, batch in zip(shards, batches, strict=True):
                    shard.records.append(self.teacher.ask(batch))
                    shard.canaries |= self.teacher.canaries(batch, positions, writer.manifest.samples_per_shard)
                    if positions[-1] + 1 == shard.unit.first + shard.unit.count:
                        while len(writing) >= self.views_at_once:
                            writing.popleft().result()
                        writing.append(disk.submit(writer.write_shard, shard.unit, Record.concat(shard.records),
                                                   shard.canaries))
                        shard.records.clear()
                        if self.join:
                            progress.look(partial(self._missing, writer))
                    progress.count(len(positions))
            for shard in writing:
                shard.result()

    def _batches(self, writer: LogitWriter, in_flight: deque) -> Iterator[list[tuple]]:
        """Items of the dataset, batch by batch, of the shards that this process gets; adds them to ``in_flight``."""
        groups: dict[tuple[int, int], list[Unit]] = {}  # by the views that go together, and by shard
        for unit in dict.fromkeys(writer.missing(self.views, *get_dist_info())):
            groups.setdefault((self.views.index(unit.view) // self.views_at_once, unit.shard), []).append(unit)
        for group in groups.values():
            shards = [_Shard(unit) for unit in group if writer.claim(unit)]
            if not shards:
                continue
            first, end = shards[0].unit.first, shards[0].unit.first + shards[0].unit.count
            for start in range(first, end, self.batch_size):
                positions = np.arange(start, min(start + self.batch_size, end))
                in_flight.append((shards, positions))
                items = [self.teacher.items(shard.unit.view, positions) for shard in shards]
                yield [([view for view, _ in same], same[0][1]) for same in zip(*items, strict=True)]


@dataclass
class _Shard:
    """What is known of a shard until it is whole."""
    unit: Unit
    records: list[Record] = field(default_factory=list)
    canaries: dict[int, bytes] = field(default_factory=dict)


class _Progress(Progress):
    """Shows the rate and the time left, on rank 0: a bar in a terminal, a line now and then in a log.

    Args:
        logger: For runs without a terminal.
        total: Views of samples to go, over all processes; the others are taken to be as fast as this one.
    """

    def __init__(self, logger: logging.Logger, total: int) -> None:
        console, (rank, self.world_size) = Console(stderr=True), get_dist_info()
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
