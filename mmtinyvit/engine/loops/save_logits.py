"""SaveLogitsLoop: run the teacher once over every view, and write down what it says."""
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from mmengine.dist import barrier, get_dist_info
from mmengine.model import is_model_wrapper
from mmengine.registry import DATASETS
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader

from mmtinyvit.datasets.identity import (
    canary_digest,
    dataset_identity,
    find_seeded_augment,
    iter_keys,
    library_versions,
    pipeline_identity,
)
from mmtinyvit.datasets.mixing import partners_of_view
from mmtinyvit.datasets.view_dataset import ViewDataset
from mmtinyvit.errors import UserError
from mmtinyvit.models.data_preprocessors import SeededMixing
from mmtinyvit.registry import LOOPS
from mmtinyvit.store import LogitStore, LogitWriter, Unit, key_hash

from ..store_check import check_canaries
from ..teacher import sparsify, teacher_identity
from .progress import SavingProgress
from .shard_buffer import ShardBuffer

__all__ = ['SaveLogitsLoop']


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
        num_classes: C; by default what the teacher's first batch has.
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
        self.samples_per_shard, self.amp = samples_per_shard, amp
        config = dict(dataloader)
        self.batch_size, self.num_workers = config['batch_size'], config.get('num_workers', 0)
        self.collate = config.get('collate_fn')
        self.pin_memory = config.get('pin_memory', True) and torch.cuda.is_available()
        dataset = config['dataset']
        self.dataset = ViewDataset(DATASETS.build(dataset) if isinstance(dataset, dict) else dataset)
        self.augment = find_seeded_augment(self.dataset.dataset)
        self.mixing = SeededMixing(**mixing, base_seed=self.augment.base_seed) if mixing else None
        model = runner.model
        self.teacher = (model.module if is_model_wrapper(model) else model).eval()

    # ---------------------------------------------------------------- what is to be saved
    def _manifest(self, keys: list[str], num_classes: int) -> dict:
        classes = getattr(self.dataset.dataset, 'metainfo', {}).get('classes')
        mixing = self.mixing.config if self.mixing else None
        return dict(
            topk=self.topk,
            num_classes=num_classes,
            codec=self.codec,
            base_seed=self.augment.base_seed,
            mixing=self.mixing is not None,
            samples_per_shard=self.samples_per_shard,
            fingerprints=dict(
                dataset=dataset_identity(keys, classes),
                pipeline=pipeline_identity(self.augment, mixing),
                teacher=teacher_identity(self.teacher, self.runner.cfg.get('model', {}), self.amp),
                versions=library_versions()))

    def _probe(self) -> int:
        """Run one sample twice: what cannot be replayed is refused before anything is written. Returns C."""
        view = self.views.start
        first, again = self.dataset[view, 0], self.dataset[view, 0]
        if canary_digest(first['inputs']) != canary_digest(again['inputs']):
            raise UserError(f'The pipeline gave two different images for view {view} of the same sample: a random '
                            'transform stands outside SeededAugment, or has a generator of its own.')
        logits = self._run_teacher(self._collate([first]))
        classes = logits.shape[1]
        if self.num_classes not in (None, classes):
            raise UserError(f'The teacher has {classes} classes, and the config says num_classes={self.num_classes}.')
        if self.topk > classes:
            raise UserError(f'topk={self.topk} is more than the {classes} classes of the teacher.')
        return classes

    # ---------------------------------------------------------------- running
    def run(self) -> dict[str, float]:
        """Save what is missing.

        Returns:
            dict: ``samples`` (views of samples saved by this process), ``seconds``, ``bytes_per_view``.
        """
        rank, world_size = get_dist_info()
        classes = self._probe()
        keys = list(iter_keys(self.dataset.dataset, self.augment.key_root))
        manifest = self._manifest(keys, classes)
        start = time.perf_counter()
        if rank == 0:  # creates the store, or refuses
            writer = LogitWriter(self.store_path, manifest, keys, exclusive=True)
        barrier()
        if rank != 0:
            writer = LogitWriter(self.store_path, manifest, keys)
        with writer, SavingProgress(self.runner.logger, rank, world_size) as progress:
            self._check_replay(keys)
            saved = self._save_all(writer, progress, rank, world_size)
        barrier()
        seconds = time.perf_counter() - start
        size = LogitStore(self.store_path).record_bytes
        self.runner.logger.info(f'{self.store_path}: {saved:,} views of samples saved by this process in {seconds:.0f} s, '
                                f'{size} bytes each')
        return dict(samples=saved, seconds=seconds, bytes_per_view=size)

    def _check_replay(self, keys: list[str]) -> None:
        """Going on with a store: the libraries must still make the same pixels."""
        store = LogitStore(self.store_path)
        done = [view for view, there in store.coverage().items() if there.present == there.expected]
        if done:
            check_canaries(store, self.dataset.dataset, {key: i for i, key in enumerate(keys)}, done[-1:], 2)

    def _save_all(self, writer: LogitWriter, progress: SavingProgress, rank: int, world_size: int) -> int:
        """Claim and save until nothing is missing; another process's units are waited for, in case it dies."""
        saved = 0
        progress.begin(sum(unit.count for unit in writer.missing(self.views)))
        while True:
            done = self._save_claimable(writer, progress, rank, world_size)
            saved += done
            if next(writer.missing(self.views), None) is None:
                return saved
            if not done:
                time.sleep(1)

    def _save_claimable(self, writer: LogitWriter, progress: SavingProgress, rank: int, world_size: int) -> int:
        """One round over the units that nobody else holds."""
        plan: deque[tuple[Unit, np.ndarray]] = deque()
        loader = DataLoader(
            self.dataset,
            batch_sampler=_Batches(self._batches(writer, plan, rank, world_size)),
            num_workers=self.num_workers,
            collate_fn=self._collate,
            pin_memory=self.pin_memory)
        saved, buffer = 0, None
        writing: Future | None = None
        with ThreadPoolExecutor(1) as disk:  # packing and writing overlap with the teacher
            for data in loader:
                unit, positions = plan.popleft()
                if buffer is None or buffer.unit != unit:
                    buffer = ShardBuffer(unit, self.topk, self.mixing is not None)
                buffer.add(positions, *self._records(data, positions))
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
        """Names of samples, batch by batch, of the units that this process gets; notes them in ``plan``."""
        partners, partners_view = None, None
        for unit in list(writer.missing(self.views, rank, world_size)):
            if not writer.claim(unit):
                continue
            if self.mixing and partners_view != unit.view:
                partners = partners_of_view(len(self.dataset), self.augment.base_seed, unit.view)
                partners_view = unit.view
            for first in range(unit.first, unit.first + unit.count, self.batch_size):
                positions = np.arange(first, min(first + self.batch_size, unit.first + unit.count))
                plan.append((unit, positions))
                indices = np.stack([positions, partners[positions]], 1).ravel() if self.mixing else positions
                yield [(unit.view, int(i)) for i in indices]

    def _records(self, data: dict, positions: np.ndarray) -> tuple:
        """Top K, log-probabilities, tail, partner hashes and the canaries of one batch."""
        step = 2 if self.mixing else 1
        canaries = {int(p): canary_digest(data['inputs'][i * step])
                    for i, p in enumerate(positions) if ShardBuffer.is_canary(int(p))}
        partners = None
        if self.mixing:
            keys = [sample.sample_key for sample in data['data_samples']]
            partners = np.array([key_hash(key) for key in keys[1::2]], np.uint64)
        return *sparsify(self._run_teacher(data), self.topk), partners, canaries

    @torch.inference_mode()
    def _run_teacher(self, data: dict) -> torch.Tensor:
        """Logits ``(B, C)`` of a collated batch; of mixed pairs, only the first image's."""
        samples = data['data_samples']
        inputs = self.teacher.data_preprocessor(data, False)['inputs']
        if self.mixing and len(samples) > 1:
            keys, view = [sample.sample_key for sample in samples], samples[0].view
            inputs = self.mixing(inputs, keys, view)[0][::2]
        device = inputs.device.type
        with torch.autocast(device, torch.bfloat16 if device == 'cpu' else torch.float16, enabled=self.amp):
            logits = self.teacher(inputs, mode='tensor')
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
            raise UserError(f'The teacher {type(self.teacher).__name__} does not return logits (B, C) in tensor mode: '
                            'give it one classification head.')
        return logits

    @staticmethod
    def _collate(items: list[dict]) -> dict:
        shapes = {tuple(item['inputs'].shape) for item in items}
        if len(shapes) > 1:
            raise UserError(f'The views of one batch have different shapes, {sorted(shapes)}: end the transforms with a '
                            'crop or resize to a fixed size.')
        return dict(inputs=torch.stack([item['inputs'] for item in items]),
                    data_samples=[item['data_samples'] for item in items])


class _Batches:
    """A generator as the iterable that ``DataLoader`` asks for."""

    def __init__(self, batches: Iterator[list[tuple[int, int]]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.batches
