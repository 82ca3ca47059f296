"""CacheLogitsHook: where the store has no record yet, the teacher answers, and the answer is kept."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import barrier, get_dist_info
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmtinyvit.datasets.load_teacher_logits import find_reader
from mmtinyvit.engine.online_teacher import Answers, OnlineTeacher, attach_records, read_saving_config
from mmtinyvit.engine.record_rule import RecordRule
from mmtinyvit.engine.store_request import (
    PlannedStore,
    check_reference_view,
    join_store,
    listed_keys,
    plan_store_of,
    request_manifest,
)
from mmtinyvit.errors import UserError
from mmtinyvit.registry import HOOKS
from mmtinyvit.store import LogitStore, LogitWriter, Manifest, PendingRecords, Record, Unit
from mmtinyvit.store.creation import agree
from mmtinyvit.store.layout import MANIFEST_NAME

from .epoch_clock import advance_clock
from .sparse_logit_distill import SparseLogitDistillHook, each_of, spell_views

__all__ = ['CacheLogitsHook']

DEFAULT_CODEC = 'compact'


@HOOKS.register_module()
class CacheLogitsHook(SparseLogitDistillHook):
    """``SparseLogitDistillHook`` with a teacher at hand. What it does follows ``mode`` of ``LoadTeacherLogits``:

    - ``stored``: the same as ``SparseLogitDistillHook``; no teacher is built.
    - ``online``: before each iteration, the teacher answers for the whole batch. Nothing is read or written.
    - ``auto``: it answers for those samples that have no record. Their records are kept, and at the end of the epoch
      the whole shards are published, with the samples that no process has seen; so the epoch's view is complete. The
      store is created if there is none, and is the one that ``tools/save_logits.py`` would write: either goes on
      with what the other began. A training that was killed takes up what it had already asked.

    Records are rounded by the codec before the student sees them, in all modes, so the losses are the same. The teacher
    sees the raw views, with a normalisation and input size of its own; it is no part of the student's checkpoint.

    Args:
        teacher_model: Config of the teacher's model with its ``data_preprocessor``; or the path of a teacher's config
            such as ``configs/teachers/timm_in1k.py``, which also knows the arguments up to ``reference_view``.
        checkpoint: The teacher's weights, file or URL; None if the model's config loads them.
        topk: K.
        codec: See ``mmtinyvit/store/README.md``.
        samples_per_shard: Of a store that is created here; by default it suits the dataset.
        amp: Run the teacher under autocast: bfloat16 on a CPU, float16 on a GPU.
        keep_mass: As for ``SaveLogitsLoop``.
        sampling: As for ``SaveLogitsLoop``.
        reference_view: As for ``SaveLogitsLoop``.
        views: The views to use, in order, stored or not; by default one per epoch.
        flush_seconds: How much of the teacher's work a kill may cost.
        **kwargs: ``num_canaries`` and ``teacher``, as for ``SparseLogitDistillHook``.
    """

    def __init__(self, teacher_model: dict | str, checkpoint: str | None = None, topk: int | None = None,
                 codec: str | None = None, samples_per_shard: int | None = None, amp: bool | None = None,
                 keep_mass: float | None = None, sampling: dict | None = None, reference_view: int | None = None,
                 views: Sequence[int] | None = None, flush_seconds: float = 5., **kwargs) -> None:
        super().__init__(views=views, topk=topk, **kwargs)
        self.teacher_model = teacher_model
        self.settings = dict(checkpoint=checkpoint, topk=topk, codec=codec, samples_per_shard=samples_per_shard,
                             amp=amp, keep_mass=keep_mass, sampling=sampling, reference_view=reference_view)
        self.flush_seconds = flush_seconds
        self.online: OnlineTeacher | None = None
        self._plan: PlannedStore | None = None
        self._request: dict = {}
        self._rule: RecordRule | None = None
        self._writer: LogitWriter | None = None
        self._store: LogitStore | None = None
        self._pending: PendingRecords | None = None
        self._known = self._asked = 0

    # ---------------------------------------------------------------- before training
    def before_train(self, runner: Runner) -> None:
        reader = find_reader(runner.train_dataloader.dataset)
        if reader.mode == 'stored':
            super().before_train(runner)
            return
        self.views = list(self.wanted_views or range(runner.max_epochs))
        plan = self._prepare(runner)
        self._check_config(runner, plan, each_of(self.teacher, 1, 'teacher')[0], None)
        coming = sorted({self.views[epoch % len(self.views)] for epoch in range(runner.epoch, runner.max_epochs)})
        stored = self._open(runner, plan, coming) if reader.mode == 'auto' else []
        teacher = plan.manifest.fingerprints['teacher']
        runner.logger.info(
            f'Teacher store {plan.root}, mode {reader.mode}: {len(coming)} views are coming, {len(stored)} of them are '
            f"stored ({spell_views(stored)}), for {len(coming) - len(stored)} the teacher {teacher['name']} "
            f"{teacher['weights_hash'][:12]} is asked; {plan.num_samples:,} samples, top {plan.topk} of "
            f'{plan.num_classes:,} classes, {plan.manifest.codec}')
        if len(stored) == len(coming):
            self.online = None  # its memory is the student's

    def _prepare(self, runner: Runner) -> PlannedStore:
        """Build the teacher, and name the store that its answers belong to."""
        if self._plan is not None:
            return self._plan
        settings = read_saving_config(self.teacher_model) if isinstance(self.teacher_model, str) else dict(
            teacher_model=self.teacher_model)
        settings |= {name: value for name, value in self.settings.items() if value is not None}
        if settings.get('topk') is None:
            raise UserError('CacheLogitsHook does not know how many classes to keep of each view: set topk=.')
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        mixing = getattr(model.data_preprocessor, 'mixing', None)
        dataset = runner.train_dataloader.dataset
        self.online = OnlineTeacher(settings['teacher_model'], settings.get('checkpoint'), dataset,
                                    mixing.config if mixing else None, bool(settings.get('amp')),
                                    next(model.parameters()).device)
        viewed = self.online.viewed
        view = (self.wanted_views or [0])[0]
        self._rule = RecordRule(settings['topk'], settings.get('keep_mass'), settings.get('sampling'))
        self._request = request_manifest(viewed, view, self.online.config, self._rule,
                                         codec=settings.get('codec') or DEFAULT_CODEC,
                                         samples_per_shard=settings.get('samples_per_shard'),
                                         reference_view=settings.get('reference_view'))
        path = find_reader(dataset).paths[0]
        with listed_keys(viewed) as keys:
            found = Path(path) / MANIFEST_NAME
            self._plan = plan_store_of(path, self._request, keys)
            if find_reader(dataset).mode == 'auto' and found.exists():
                asked = Manifest.parse(self._request, 'The requested store')
                self._plan = PlannedStore(Path(path), agree(Path(path), asked, keys))
        return self._plan

    def _open(self, runner: Runner, plan: PlannedStore, coming: list[int]) -> list[int]:
        """Create the store, or check the one that is there; returns those of the coming views that are complete."""
        rank, _ = get_dist_info()
        stored: list[int] = []
        if (plan.root / MANIFEST_NAME).exists():
            self._store = LogitStore(plan.root)
            there = self._store.coverage()
            stored = [view for view in coming if view in there and there[view].present == there[view].expected]
            self._check_content(runner, self._store, [view for view in coming if view in there])
        if len(stored) < len(coming):
            check_reference_view(str(plan.root), self._request, coming)
            with listed_keys(self.online.viewed) as keys:
                self._writer = join_store(str(plan.root), self._request, keys, rank)
            self._store = LogitStore(plan.root)
        return stored

    def _identity(self, runner: Runner) -> dict[str, str]:
        if find_reader(runner.train_dataloader.dataset).mode == 'stored':
            return super()._identity(runner)
        plan = self._prepare(runner)
        return dict(path=str(plan.root), store_id=plan.manifest.store_id.hex())

    # ---------------------------------------------------------------- each epoch
    def before_train_epoch(self, runner: Runner) -> None:
        view = advance_clock(runner, self.views)
        if self._writer is None or next(self._writer.missing([view]), None) is None:
            return
        meta, (rank, _) = self._writer.manifest, get_dist_info()
        self._known = self._asked = 0
        self._pending = PendingRecords(self._writer.root, meta.store_id, view, meta.topk, meta.samples_per_shard, rank,
                                       self.flush_seconds)
        barrier()  # all have seen what earlier runs left before anyone adds to it

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if self._plan is None:
            return
        samples = data_batch['data_samples']
        rows = [row for row, sample in enumerate(samples) if 'teacher_index' not in sample]
        if not rows:
            return
        meta = self._plan.manifest
        lacking = [samples[row] for row in rows]
        if self._store is None:  # online
            attach_records(lacking, self._ask(data_batch, rows, np.full(len(rows), -1)), meta.codec, meta.num_classes)
            return
        if self._pending is None:
            raise UserError(f'View {lacking[0].view} of the store {self._plan.root} lost shards while this training '
                            'was reading it: start again with --resume.')
        positions = self._store.positions([sample.sample_key for sample in lacking])
        known, answers = self._pending.find(positions)
        new = np.flatnonzero(~known)
        told = self._ask(data_batch, [rows[i] for i in new], positions[new]) if len(new) else None
        if told:
            _fill(answers, new, told)
        self._known += int(known.sum())
        attach_records(lacking, Answers(*answers[:3], answers[3] if meta.mixing else None, {}), meta.codec,
                       meta.num_classes)
        if told:  # not before they were found to be sound
            self._pending.add(positions[new], Record(*told[:4]), told.canaries)

    def _ask(self, batch: dict, rows: list[int], positions: np.ndarray) -> Answers:
        meta = self._plan.manifest
        self._asked += len(rows)
        return self.online.answer(batch['inputs'], batch['data_samples'], rows, positions, self._rule,
                                  meta.samples_per_shard)

    def after_train_epoch(self, runner: Runner) -> None:
        if self._pending is None:
            return
        writer, pending, (rank, world_size) = self._writer, self._pending, get_dist_info()
        seen = self._asked
        pending.flush()
        barrier()  # every process has its rows on disk
        written = 0
        for unit in writer.missing([pending.view], rank, world_size, wait=True):
            if writer.claim(unit):
                self._publish(runner, unit)
                written += 1
        barrier()  # nobody reads them any more
        if rank == 0:
            pending.close()
        self._pending = None
        runner.logger.info(f'View {pending.view} is stored. This process asked the teacher {seen:,} times in training '
                           f'and {self._asked - seen:,} times for what nobody saw, found {self._known:,} answers of '
                           f'an earlier run, and wrote {written} shards.')

    def _publish(self, runner: Runner, unit: Unit) -> None:
        """Write one shard; what no process has seen in the epoch is asked now."""
        meta, loader = self._writer.manifest, runner.train_dataloader
        there, answers, canaries = self._pending.read(unit)
        absent = unit.first + np.flatnonzero(~there)
        for positions, told in self.online.ask(unit.view, absent, self._rule, meta.samples_per_shard,
                                               loader.batch_size or 1, loader.num_workers):
            _fill(answers, positions - unit.first, told)
            canaries |= told.canaries
            self._asked += len(positions)
        self._writer.write_shard(unit, Record(*answers[:3], answers[3] if meta.mixing else None), canaries)
        self._pending.discard(unit)

    def after_train(self, runner: Runner) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _fill(arrays: Sequence[np.ndarray | None], rows: np.ndarray, told: Answers) -> None:
    """Write answers into some rows of index, log-probabilities, tail masses and partner hashes."""
    for array, values in zip(arrays, told[:4], strict=True):
        if values is not None:
            array[rows] = values
