"""CacheLogitsHook: where the store has no record yet, the teacher is asked, and what it says is kept."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import barrier, get_dist_info
from mmengine.runner import Runner
from timm.utils import unwrap_model

from mmtinyvit.config import read_config, saving_loop
from mmtinyvit.datasets.load_teacher_logits import TEACHER_KEYS, find_reader, use_store
from mmtinyvit.datasets.view_dataset import read_in_batches
from mmtinyvit.engine.record_rule import RecordRule
from mmtinyvit.engine.store_check import StoreCheck
from mmtinyvit.engine.store_request import join_store, listed_keys, note_class_names, request_manifest
from mmtinyvit.engine.teacher import Batch, Teacher
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import ClassList
from mmtinyvit.models.classifiers import build_teacher
from mmtinyvit.registry import HOOKS
from mmtinyvit.store import LogitStore, LogitWriter, Manifest, PendingRecords, Record, Unit, make_codec
from mmtinyvit.store.keys import SampleFiles, text_sha256
from mmtinyvit.store.layout import MANIFEST_NAME, spell_numbers
from mmtinyvit.store.record import check_record
from mmtinyvit.store.writer import agree

from .epoch_clock import advance_clock
from .sparse_logit_distill import StoreHook

__all__ = ['SAVING_SETTINGS', 'CacheLogitsHook', 'read_saving_config']

SAVING_SETTINGS = ('topk', 'codec', 'samples_per_shard', 'amp', 'keep_mass', 'sampling', 'reference_view', 'classes')


def read_saving_config(path: str) -> dict:
    """What a teacher's config says about its store.

    Args:
        path: A config with ``SaveLogitsLoop``, from here or within the library's ``configs/``.

    Returns:
        dict: ``teacher_model``, ``checkpoint`` and, where they are set, those of :data:`SAVING_SETTINGS`.

    Raises:
        UserError: There is no such config, or it saves nothing.
    """
    cfg = read_config(path)
    loop = saving_loop(cfg, path)
    model = cfg.model.to_dict()
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    settings = {name: loop[name] for name in SAVING_SETTINGS if name in loop}
    return dict(settings, teacher_model=model, checkpoint=cfg.get('load_from'))


@HOOKS.register_module()
class CacheLogitsHook(StoreHook):
    """A training with the store's teacher at hand. What it does follows ``mode`` of ``LoadTeacherLogits``:

    - ``stored``: the same as ``SparseLogitDistillHook``; no teacher is built.
    - ``online``: before each iteration, the teacher is asked about the whole batch. Nothing is read or written.
    - ``auto``: it is asked about those samples that have no record. Their records are kept, and at the end of the epoch
      the whole shards are published, with the samples that no process has seen; so the epoch's view is complete. The
      store is created if there is none, and is the one that ``mmtinyvit save`` would write: either goes on
      with what the other began. A training that was killed takes up what it had already asked.

    Records are rounded by the codec before the student sees them, in all modes, so the losses are the same. The teacher
    sees the raw views, with a normalisation and input size of its own; it is no part of the student's checkpoint.

    Args:
        teacher_model: Config of the teacher's model with its ``data_preprocessor``; or the path of a teacher's config
            such as ``configs/teachers/timm_in1k.py``, which also knows the arguments up to ``classes``.
        checkpoint: The teacher's weights, file or URL; None if the model's config loads them.
        topk: K.
        codec: See ``mmtinyvit/store/README.md``; ``compact`` by default.
        samples_per_shard: Of a store that is created here; by default it suits the dataset.
        amp: Run the teacher under autocast: bfloat16 on a CPU, float16 on a GPU.
        keep_mass, sampling, reference_view, classes: As for ``SaveLogitsLoop``.
        views: The views to use, in order, stored or not; by default one per epoch.
        flush_seconds: How much of the teacher's work a kill may cost.
        num_canaries, teacher, any_order: As for ``SparseLogitDistillHook``.
        random_teacher: Whether weights of the teacher may come from nowhere.
    """

    def __init__(self, teacher_model: dict | str, checkpoint: str | None = None, topk: int | None = None,
                 codec: str | None = None, samples_per_shard: int | None = None, amp: bool | None = None,
                 keep_mass: float | None = None, sampling: dict | None = None, reference_view: int | None = None,
                 classes: ClassList | None = None, views: Sequence[int] | None = None, flush_seconds: float = 5.,
                 num_canaries: int = 8, teacher: str | None = None, any_order: bool = False,
                 random_teacher: bool = False) -> None:
        self.teacher_model = teacher_model
        self.random_teacher = random_teacher
        self.settings = dict(checkpoint=checkpoint, topk=topk, codec=codec, samples_per_shard=samples_per_shard,
                             amp=amp, keep_mass=keep_mass, sampling=sampling, reference_view=reference_view,
                             classes=classes)
        self.check = StoreCheck(num_canaries, teacher, topk, any_order)
        self.wanted_views, self.views = views, []
        self.flush_seconds = flush_seconds
        self.teacher: Teacher | None = None
        self._place: Path | None = None  # of the store
        self._manifest: Manifest | None = None  # of the store, which need not exist yet
        self._request: dict = {}
        self._writer: LogitWriter | None = None
        self._view: _CachedView | None = None

    # ---------------------------------------------------------------- before training
    def before_train(self, runner: Runner) -> None:
        read_in_batches(runner.train_dataloader.dataset)
        mode = use_store(runner.train_dataloader.dataset, runner.cfg).mode
        if mode == 'stored':
            self.views = self.check.stores(runner, self.wanted_views)
            return
        self.views = list(self.wanted_views or range(runner.max_epochs))
        self._prepare(runner)
        self.check.config(runner, self._place, self._manifest)
        coming = sorted({self.views[epoch % len(self.views)] for epoch in range(runner.epoch, runner.max_epochs)})
        stored: list[int] = []
        if mode == 'auto' and (self._place / MANIFEST_NAME).exists():
            store = LogitStore(self._place)
            stored = sorted(set(coming) & set(store.complete_views()))
            self.check.content(runner, store, sorted(set(coming) & set(store.views)))
        if mode == 'auto' and len(stored) < len(coming):
            self._writer = join_store(self._place, self._request, self.teacher, coming)
        meta, teacher = self._manifest, self._manifest.fingerprints['teacher']
        runner.logger.info(
            f'Teacher store {self._place}, mode {mode}: {len(coming)} views are coming, {len(stored)} of them are '
            f"stored ({spell_numbers(stored)}), for {len(coming) - len(stored)} the teacher {teacher['name']} "
            f"{teacher['weights_hash'][:12]} is asked; {meta.num_samples:,} samples, top {meta.topk} of "
            f'{meta.num_classes:,} classes, {meta.codec}')
        note_class_names(self._request, meta, self._place)
        if len(stored) == len(coming):
            self.teacher = None  # its memory is the student's

    def _prepare(self, runner: Runner) -> None:
        """Build the teacher, and name the store that its records belong to."""
        if self._manifest is not None:
            return
        settings = read_saving_config(self.teacher_model) if isinstance(self.teacher_model, str) else dict(
            teacher_model=self.teacher_model)
        settings |= {name: value for name, value in self.settings.items() if value is not None}
        if settings.get('topk') is None:
            raise UserError('CacheLogitsHook does not know how many classes to keep of each view: set topk=.')
        model, dataset = unwrap_model(runner.model), runner.train_dataloader.dataset
        mixing = getattr(model.data_preprocessor, 'mixing', None)
        config = settings['teacher_model']
        built = build_teacher(config, settings.get('checkpoint'), self.random_teacher)
        built.to(next(model.parameters()).device)
        rule = RecordRule(settings['topk'], settings.get('keep_mass'), settings.get('sampling'))
        self.teacher = Teacher(built, dataset, rule, mixing.config if mixing else None, bool(settings.get('amp')))
        self._request = request_manifest(self.teacher, (self.wanted_views or [0])[0], config,
                                         codec=settings.get('codec') or 'compact',
                                         samples_per_shard=settings.get('samples_per_shard'),
                                         reference_view=settings.get('reference_view'),
                                         classes=settings.get('classes'))
        reader = find_reader(dataset)
        self._place = Path(reader.paths[0])
        manifest = Manifest.parse(self._request, 'The requested store')
        with listed_keys(self.teacher) as keys:
            if reader.mode == 'auto' and (self._place / MANIFEST_NAME).exists():
                self._manifest = agree(self._place, manifest, keys)
            else:  # what would be created, but for the hash of the samples' index
                text_sha, num_samples = text_sha256(keys)
                self._manifest = manifest.settle(num_samples, SampleFiles(text_sha, '0' * 64, 0))

    # ---------------------------------------------------------------- each epoch
    def before_train_epoch(self, runner: Runner) -> None:
        view = advance_clock(runner, self.views)
        if self._writer is not None and next(self._writer.missing([view]), None) is not None:
            self._view = _CachedView(self.teacher, self._writer, view, self.flush_seconds)
            barrier()  # all have seen what earlier runs left before anyone adds to it

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        meta = self._manifest
        if meta is None:  # all is stored
            return
        samples = data_batch['data_samples']
        rows = [row for row, sample in enumerate(samples) if 'teacher_index' not in sample]
        if not rows:
            return
        if self._view is not None:
            record = self._view.records(data_batch, rows)
        elif find_reader(runner.train_dataloader.dataset).mode == 'online':
            record = _ask(self.teacher, self.teacher.select(data_batch, rows), meta)
        else:
            raise UserError(f'View {samples[rows[0]].view} of the store {self._place} lost shards while this training '
                            'was reading it: start again with --resume.')
        codec = make_codec(meta.codec, meta.topk, meta.num_classes)
        rounded = codec.decode(codec.encode(record))._replace(partner_hash=record.partner_hash)
        for i, row in enumerate(rows):  # where LoadTeacherLogits puts it
            for name, value in zip(TEACHER_KEYS, rounded.row(i), strict=True):
                if value is not None:
                    samples[row].set_field(value, name)

    def after_train_epoch(self, runner: Runner) -> None:
        if self._view is not None:
            loader = runner.train_dataloader
            runner.logger.info(self._view.publish(loader.batch_size or 1, loader.num_workers))
            self._view = None

    def after_train(self, runner: Runner) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def identity(self, runner: Runner) -> dict[str, Any]:
        if use_store(runner.train_dataloader.dataset, runner.cfg).mode == 'stored':
            return super().identity(runner)
        self._prepare(runner)
        return dict(path=str(self._place), store_id=self._manifest.store_id.hex(), classes=self._manifest.class_names)


class _CachedView:
    """What the teacher has said about one view, kept on disk until the store has it; asks about what nobody knows."""

    def __init__(self, teacher: Teacher, writer: LogitWriter, view: int, flush_seconds: float) -> None:
        self.teacher, self.writer, self.view = teacher, writer, view
        self.meta, (rank, _) = writer.manifest, get_dist_info()
        self.store = LogitStore(writer.root)
        self.pending = PendingRecords(writer.root, self.meta.store_id, view, self.meta.topk,
                                      self.meta.samples_per_shard, rank, flush_seconds)
        self.num_known = self.num_queries = 0

    def records(self, batch: Batch, rows: Sequence[int]) -> Record:
        """What the teacher says, or has said in an earlier run, about some rows of a training's batch."""
        positions = self.store.positions([batch['data_samples'][row].sample_key for row in rows])
        known, record = self.pending.find(positions)
        new = np.flatnonzero(~known)
        if len(new):
            part = self.teacher.select(batch, [rows[i] for i in new])
            answer = _ask(self.teacher, part, self.meta)
            self.pending.add(positions[new], answer,
                             self.teacher.canaries(part, positions[new], self.meta.samples_per_shard))
            _fill(record, new, answer)
        self.num_known, self.num_queries = self.num_known + int(known.sum()), self.num_queries + len(new)
        return record if self.meta.mixing else record._replace(partner_hash=None)

    def publish(self, batch_size: int, num_workers: int) -> str:
        """Write the view's shards, and ask about what no process has seen; returns a line about it."""
        (rank, world_size), in_training, written = get_dist_info(), self.num_queries, 0
        self.pending.flush()
        barrier()  # every process has its rows on disk
        for unit in self.writer.missing([self.view], rank, world_size, wait=True):
            if self.writer.claim(unit):
                self._write(unit, batch_size, num_workers)
                written += 1
        barrier()  # nobody reads them any more
        if rank == 0:
            self.pending.close()
        return (f'View {self.view} is stored. This process asked the teacher {in_training:,} times in training and '
                f'{self.num_queries - in_training:,} times for what nobody saw, found {self.num_known:,} records of an '
                f'earlier run, and wrote {written} shards.')

    def _write(self, unit: Unit, batch_size: int, num_workers: int) -> None:
        present, record, canaries = self.pending.read(unit)
        absent = unit.first + np.flatnonzero(~present)
        for positions, batch in self.teacher.batches(self.view, absent, batch_size, num_workers):
            _fill(record, positions - unit.first, _ask(self.teacher, batch, self.meta))
            canaries |= self.teacher.canaries(batch, positions, self.meta.samples_per_shard)
            self.num_queries += len(positions)
        self.writer.write_shard(unit, record if self.meta.mixing else record._replace(partner_hash=None), canaries)
        self.pending.discard(unit)


def _ask(teacher: Teacher, batch: Batch, meta: Manifest) -> Record:
    """Ask, and refuse what no softmax gives. Raises :class:`StoreError`, which names the sample."""
    samples, record = batch['data_samples'][::2 if meta.mixing else 1], teacher.ask(batch)
    return check_record(record, len(samples), meta.topk, meta.num_classes,
                        lambda i: f'sample {samples[i].sample_key!r} in view {samples[i].view}')


def _fill(record: Record, rows: np.ndarray, answer: Record) -> None:
    """Write an answer into some rows of a record."""
    for array, values in zip(record, answer, strict=True):
        if values is not None:
            array[rows] = values
