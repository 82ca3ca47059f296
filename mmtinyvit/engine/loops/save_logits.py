"""SaveLogitsLoop: run the teacher once over every view, and write down what it says."""
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import barrier, get_dist_info
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader

from mmtinyvit.datasets.identity import canary_digest
from mmtinyvit.errors import UserError
from mmtinyvit.registry import LOOPS
from mmtinyvit.store import LogitStore, LogitWriter, Unit, key_hash

from ..store_check import check_canaries
from ..teacher import sparsify
from ..view_teacher import ViewTeacher
from .progress import SavingProgress
from .shard_buffer import ShardBuffer

__all__ = ['SaveLogitsLoop']

PATIENCE_SECONDS = 1.  # between two looks at shards that other processes hold


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
        store: Folder of the store.
        views: First view, and the one after the last.
        topk: K.
        num_classes: C; by default what the teacher has.
        codec: See ``mmtinyvit/store/README.md``.
        samples_per_shard: Size of the unit of work; by default it suits the dataset.
        mixing: Arguments of ``SeededMixing`` but its seed; None saves views of single images.
        amp: Run the teacher under autocast: bfloat16 on a CPU, float16 on a GPU.
        evaluator: Not used; MMEngine passes one.
    """

    def __init__(self,
                 runner: Runner,
                 dataloader: dict,
                 store: str,
                 views: tuple[int, int] = (0, 1),
                 topk: int = 100,
                 num_classes: int | None = None,
                 codec: str = 'compact',
                 samples_per_shard: int | None = None,
                 mixing: dict | None = None,
                 amp: bool = False,
                 evaluator: object = None) -> None:
        self._runner = runner
        self.store_path = store
        self.views = range(*views)
        if not self.views or self.views.start < 0:
            raise UserError(f'views={views[0]}:{views[1]} names no view: write first:end, for example 0:90.')
        self.topk, self.num_classes, self.codec = topk, num_classes, codec
        self.samples_per_shard = samples_per_shard
        self.batch_size, self.num_workers = dataloader['batch_size'], dataloader.get('num_workers', 0)
        self.teacher = ViewTeacher(runner.model, dataloader['dataset'], mixing, amp)

    def run(self) -> dict[str, float]:
        """Save what is missing.

        Returns:
            dict: ``samples`` (views of samples saved by this process), ``seconds`` and ``bytes_per_view``.
        """
        rank, world_size = get_dist_info()
        manifest = self._manifest()
        start = time.perf_counter()
        with self._open(manifest, rank) as writer, SavingProgress(self.runner.logger, rank, world_size) as progress:
            self._check_replay()
            saved = self._save_all(writer, progress, rank, world_size)
        seconds = time.perf_counter() - start
        size = LogitStore(self.store_path).record_bytes
        self.runner.logger.info(f'{self.store_path}: {saved:,} views of samples saved by this process in {seconds:.0f} '
                                f's, {size} bytes each')
        barrier()
        return dict(samples=saved, seconds=seconds, bytes_per_view=size)

    def _manifest(self) -> dict:
        classes = self.teacher.probe(self.views.start)
        if self.num_classes not in (None, classes):
            raise UserError(f'The teacher has {classes} classes, and the config says num_classes={self.num_classes}.')
        if self.topk > classes:
            raise UserError(f'topk={self.topk} is more than the {classes} classes of the teacher.')
        return dict(
            topk=self.topk,
            num_classes=classes,
            codec=self.codec,
            base_seed=self.teacher.augment.base_seed,
            mixing=self.teacher.mixing is not None,
            samples_per_shard=self.samples_per_shard,
            fingerprints=self.teacher.fingerprints(self.runner.cfg.get('model', {})))

    def _open(self, manifest: dict, rank: int) -> LogitWriter:
        """Rank 0 creates the store, or refuses; the others join."""
        with tempfile.NamedTemporaryFile('w', encoding='utf-8') as keys:  # 14 million names do not belong in memory
            keys.writelines(f'{key}\n' for key in self.teacher.keys())
            keys.flush()
            if rank != 0:
                barrier()
            writer = LogitWriter(self.store_path, manifest, Path(keys.name), exclusive=rank == 0)
            if rank == 0:
                barrier()
        return writer

    def _check_replay(self) -> None:
        """Going on with a store: the libraries must still make the same pixels."""
        store = LogitStore(self.store_path)
        done = [view for view, there in store.coverage().items() if there.present == there.expected]
        if done:
            check_canaries(store, self.teacher.dataset.dataset, done[-1:], 2)

    def _save_all(self, writer: LogitWriter, progress: SavingProgress, rank: int, world_size: int) -> int:
        """Claim and save until nothing is missing; another process's shards are waited for, in case it dies."""
        progress.begin(sum(unit.count for unit in writer.missing(self.views)))
        saved = 0
        while next(writer.missing(self.views), None) is not None:
            done = self._save_claimable(writer, progress, rank, world_size)
            saved += done
            if not done:
                time.sleep(PATIENCE_SECONDS)
        return saved

    def _save_claimable(self, writer: LogitWriter, progress: SavingProgress, rank: int, world_size: int) -> int:
        """One round over the shards that nobody else holds."""
        plan: deque[tuple[Unit, np.ndarray]] = deque()
        loader = DataLoader(
            self.teacher.dataset,
            batch_sampler=_Batches(self._batches(writer, plan, rank, world_size)),
            num_workers=self.num_workers,
            collate_fn=self.teacher.collate,
            pin_memory=torch.cuda.is_available())
        saved, buffer = 0, None
        writing: Future | None = None
        with ThreadPoolExecutor(1) as disk:  # packing and writing overlap with the teacher
            for data in loader:
                unit, positions = plan.popleft()
                if buffer is None or buffer.unit != unit:
                    buffer = ShardBuffer(unit, self.topk, self.teacher.mixing is not None)
                self._add_records(buffer, data, positions)
                if buffer.full:
                    if writing is not None:
                        writing.result()
                    writing = disk.submit(writer.write_shard, unit, *buffer.arrays(), canaries=buffer.canaries)
                saved += len(positions)
                progress.advance(len(positions))
            if writing is not None:
                writing.result()
        return saved

    def _batches(self, writer: LogitWriter, plan: deque, rank: int, world_size: int) -> Iterator[list[tuple[int, int]]]:
        """Names of samples, batch by batch, of the shards that this process gets; notes them in ``plan``."""
        for unit in list(writer.missing(self.views, rank, world_size)):
            if not writer.claim(unit):
                continue
            for first in range(unit.first, unit.first + unit.count, self.batch_size):
                positions = np.arange(first, min(first + self.batch_size, unit.first + unit.count))
                plan.append((unit, positions))
                yield self.teacher.names(unit.view, positions)

    def _add_records(self, buffer: ShardBuffer, data: dict, positions: np.ndarray) -> None:
        """Run the teacher on one batch and keep what it says, with the hashes of a few inputs."""
        mixing = self.teacher.mixing is not None
        partners = None
        if mixing:
            partners = np.array([key_hash(s.sample_key) for s in data['data_samples'][1::2]], np.uint64)
        inputs = data['inputs'][::2] if mixing else data['inputs']
        canaries = {int(p): canary_digest(image) for p, image in zip(positions, inputs, strict=True)
                    if buffer.is_canary(int(p))}
        records = sparsify(self.teacher.logits(data), self.topk)
        buffer.add(positions, *records, partners, canaries)


class _Batches:
    """A generator as the iterable that ``DataLoader`` asks for."""

    def __init__(self, batches: Iterator[list[tuple[int, int]]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.batches
