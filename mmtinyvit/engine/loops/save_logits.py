"""SaveLogitsLoop: run the teacher once over every view, and write down what it says."""
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.runner import BaseLoop, Runner

from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import ClassList
from mmtinyvit.models.classifiers.teachers import fill_teacher
from mmtinyvit.registry import LOOPS
from mmtinyvit.store import LogitStore, LogitWriter, PartWriter, Unit
from mmtinyvit.store.folders import is_url

from ..record_rule import RecordRule
from ..runner import TeacherRunner
from ..saving_progress import SavingProgress
from ..store_check import check_canaries
from ..store_request import join_store, note_class_names, open_part, request_manifest
from ..teacher import Teacher
from ..unit_saver import UnitSaver, group_units, share_of

__all__ = ['SaveLogitsLoop']


@LOOPS.register_module()
class SaveLogitsLoop(BaseLoop):
    """Save sparse teacher logits for every view of every sample; ``test_cfg`` of a teacher's config.

    Work is shared out by shards. In a folder, they are claimed in the store's lock file: any number of processes, no
    coordinator, and what a dead process leaves is taken up by the others. With ``part``, and at a URL, there is no
    lock: each process has a share of the shards by its number. Batches never cross a shard, so the bytes of a shard do
    not depend on who computes it. Started again, it does only what is missing.

    Args:
        runner: The runner; its model is the teacher.
        dataloader: Config with ``dataset``, ``batch_size`` and ``num_workers``; its sampler is not used. The pipeline
            has one ``SeededAugment`` and ends in ``PackViewInputs``.
        store: Folder or URL of the store; None for the ``store`` that the config names at its top level, as for a
            student.
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
        part: ``(I, N)``: this job is number I of N, from 0, and saves its share without a lock and without looking at
            the others. They share out groups of ``views_at_once`` views of a shard; with the codec ``smallest`` all
            views of a shard, since these are coded relative to one of them.
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
                 part: tuple[int, int] | None = None,
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
        if part is not None and not 0 <= part[0] < part[1]:
            raise UserError(f'part={part[0]}/{part[1]} does not exist: N parts are numbered from 0 to N - 1.')
        if join and (part is not None or is_url(self.store_path)):
            raise UserError('join=True shares the work through locks in a folder, and there are none with part= or at '
                            'a URL: leave it out, and give each job its part.')
        self.join, self.part = join, part
        self.batch_size, self.num_workers = dataloader['batch_size'], dataloader.get('num_workers', 0)
        rule = RecordRule(topk, keep_mass, sampling)
        self.teacher = Teacher(runner.model, dataloader['dataset'], rule, mixing, amp)

    def run(self) -> dict[str, float]:
        """Save what is missing.

        Returns:
            dict: ``samples`` (views of samples saved by this process), ``seconds`` and ``bytes_per_view``.
        """
        request, start = self.request(), time.perf_counter()
        with self.open_writer(request) as writer:
            saver = UnitSaver(self.teacher, writer.manifest, self.batch_size, self.num_workers)
            save = self._save_share if isinstance(writer, PartWriter) else self._save_claimed
            saved = save(saver, writer)
        seconds = time.perf_counter() - start
        size = LogitStore(self.store_path).bytes_per_view
        self.runner.logger.info(f'{self.store_path}: {saved:,} views of samples saved by this process in {seconds:.0f} '
                                f's, {size:g} bytes each')
        return dict(samples=saved, seconds=seconds, bytes_per_view=size)

    def request(self) -> dict[str, Any]:
        """What the store is to be; see :func:`~mmtinyvit.engine.store_request.request_manifest`."""
        config = self.runner.cfg.get('model', {})
        if not (self.runner._has_loaded or isinstance(self.runner, TeacherRunner)):  # a runner of MMEngine's own
            fill_teacher(self.teacher.model, config, self.runner.cfg.get('random_teacher', False))
        return request_manifest(self.teacher, self.views.start, config, **self.settings)

    @contextmanager
    def open_writer(self, request: dict[str, Any]) -> Iterator[LogitWriter | PartWriter]:
        """What publishes the shards; the store is created if there is none, and otherwise held to its canaries."""
        if self.part is None and not is_url(self.store_path):
            opened = join_store(self.store_path, request, self.teacher, self.views, self.join)
        else:
            opened = open_part(self.store_path, request, self.teacher, self.views)
        with opened as writer:
            note_class_names(request, writer.manifest, self.store_path)
            store = LogitStore(self.store_path)
            done = store.complete_views()
            if done:  # going on with a store: the libraries must still make the same pixels
                check_canaries(store, self.teacher.dataset.dataset, done[-1:], 2)
            yield writer

    # ---------------------------------------------------------------- without a lock
    def _save_share(self, saver: UnitSaver, writer: PartWriter) -> int:
        """Save what is missing of the share of this process."""
        (part, parts), (rank, world_size) = self.part or (0, 1), get_dist_info()
        groups = share_of(writer.missing(self.views), self.views, self.views_at_once, writer.manifest,
                          part * world_size + rank, parts * world_size)
        total = sum(unit.count for group in groups for unit in group)
        with SavingProgress(self.runner.logger, total, alone=True) as progress:
            for _ in saver.save_units(groups, writer.write_shard, progress.count):
                pass
        return progress.saved

    # ---------------------------------------------------------------- with claims
    def _save_claimed(self, saver: UnitSaver, writer: LogitWriter) -> int:
        """Save what is missing and nobody else holds; what other processes hold is waited for, in case they die."""
        with SavingProgress(self.runner.logger, self._missing(writer)) as progress:
            for unit in writer.missing(self.views, *get_dist_info(), wait=True):
                if writer.claim(unit):  # there is something to do, at least this
                    for _ in saver.save_units(self._claimable(writer), writer.write_shard, progress.count):
                        if self.join:
                            progress.look(partial(self._missing, writer))
        return progress.saved

    def _missing(self, writer: LogitWriter) -> int:
        """Views of samples that the store lacks."""
        return sum(unit.count for unit in set(writer.missing(self.views)))  # a set: shards that end meanwhile repeat it

    def _claimable(self, writer: LogitWriter) -> Iterator[list[Unit]]:
        """Groups of units that nobody else holds, claimed one after the other."""
        units = writer.missing(self.views, *get_dist_info())
        for group in group_units(units, self.views, self.views_at_once):
            claimed = [unit for unit in group if writer.claim(unit)]
            if claimed:
                yield claimed
