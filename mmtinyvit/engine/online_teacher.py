"""OnlineTeacher: answers for the views of a training batch that no store has, exactly as a store would."""
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmpretrain.structures import DataSample
from torch.utils.data import DataLoader

from mmtinyvit.datasets.identity import canary_digest
from mmtinyvit.errors import UserError
from mmtinyvit.models.weights import fill_module, read_state_dict
from mmtinyvit.paths import config_root
from mmtinyvit.registry import MODELS
from mmtinyvit.store import Record, key_hash, make_codec
from mmtinyvit.store.layout import is_canary
from mmtinyvit.store.record import check_record

from .record_rule import RecordRule
from .view_teacher import ViewTeacher

__all__ = ['SAVING_SETTINGS', 'Answers', 'OnlineTeacher', 'attach_records', 'read_saving_config']

Settings = dict[str, Any]
SAVING_SETTINGS = ('topk', 'codec', 'samples_per_shard', 'amp', 'keep_mass', 'sampling', 'reference_view')


class Answers(NamedTuple):
    """What a teacher said about ``n`` views, before any rounding, and the hashes of the pixels of a few.

    Attributes:
        index: ``(n, K)`` int32.
        log_prob: ``(n, K)`` float32.
        tail_mass: ``(n,)`` float32.
        partner_hash: ``(n,)`` uint64; None without mixing.
        canaries: Digests by position.
    """
    index: np.ndarray
    log_prob: np.ndarray
    tail_mass: np.ndarray
    partner_hash: np.ndarray | None
    canaries: dict[int, bytes]


def read_saving_config(path: str) -> Settings:
    """What a teacher's config says about its store.

    Args:
        path: A config with ``SaveLogitsLoop``, from here or within the library's ``configs/``.

    Returns:
        dict: ``teacher_model``, ``checkpoint`` and, where they are set, those of :data:`SAVING_SETTINGS`.

    Raises:
        UserError: There is no such config, or it saves nothing.
    """
    found = next((each for each in (Path(path), config_root().parent / path, config_root() / path) if each.is_file()),
                 None)
    if found is None:
        raise UserError(f"There is no config {path}: give teacher_model the path of a teacher's config, or a model.")
    cfg = Config.fromfile(found)
    loop = cfg.get('test_cfg') or {}
    if loop.get('type') != 'mmtinyvit.SaveLogitsLoop':
        raise UserError(f'{path} does not save logits: its test_cfg must be '
                        "dict(type='mmtinyvit.SaveLogitsLoop', store=..., ...), as in configs/teachers/.")
    model = cfg.model.to_dict()
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    settings = {name: loop[name] for name in SAVING_SETTINGS if name in loop}
    return dict(settings, teacher_model=model, checkpoint=cfg.get('load_from'))


class OnlineTeacher:
    """A teacher beside the student: in no state dict, optimizer or wrapper of it, in eval mode and without gradients.

    Args:
        model: Config of the teacher, with its ``data_preprocessor``.
        checkpoint: File or URL that must fill it; None if the config knows its weights.
        dataset: The training's dataset, built.
        mixing: Arguments of ``SeededMixing`` but its seed; None for single images.
        amp: Run under autocast.
        device: Where to run.

    Raises:
        UserError: The checkpoint does not fill the model.
    """

    def __init__(self, model: Settings, checkpoint: str | None, dataset: Any, mixing: dict | None, amp: bool,
                 device: torch.device) -> None:
        self.config = {name: value for name, value in copy.deepcopy(dict(model)).items()}
        built = MODELS.build(copy.deepcopy(self.config))
        if checkpoint is not None:
            fill_module(built, read_state_dict(checkpoint), checkpoint)
        elif (self.config.get('init_cfg') or {}).get('type') == 'Pretrained':
            built.init_weights()
        built = revert_sync_batchnorm(built).requires_grad_(False)
        self.viewed = ViewTeacher(built.to(device), dataset, mixing, amp)

    def answer(self, inputs: Sequence[torch.Tensor], samples: Sequence[DataSample], rows: Sequence[int],
               positions: np.ndarray, rule: RecordRule, samples_per_shard: int) -> Answers:
        """Ask about some images of a batch.

        Args:
            inputs: ``B`` images ``(3, H, W)`` as packed, before any normalisation.
            samples: Their names; with mixing, neighbours are partners.
            rows: ``n`` places in the batch.
            positions: ``(n,)``, theirs in the store.
            rule: What to keep of each answer.
            samples_per_shard: The store's, which decides where canaries are.
        """
        viewed = self.viewed
        mixed = [each for row in rows for each in ((row, row ^ 1) if viewed.mixing else (row, ))]
        if max(mixed) >= len(samples):
            raise UserError(f'A batch of {len(samples)} images cannot be mixed in pairs: use an even batch size and '
                            'mmtinyvit.PairedSampler.')
        data = viewed.collate([dict(inputs=inputs[row], data_samples=samples[row]) for row in mixed])
        partners = None
        if viewed.mixing:
            partners = np.array([key_hash(samples[row ^ 1].sample_key) for row in rows], np.uint64)
        canaries = {position: canary_digest(inputs[row]) for row, position in zip(rows, positions.tolist(), strict=True)
                    if is_canary(position, samples_per_shard)}
        keys = [samples[row].sample_key for row in rows]
        records = rule(viewed.logits(data), viewed.augment.base_seed, samples[rows[0]].view, keys)
        return Answers(*records, partners, canaries)

    def ask(self, view: int, positions: np.ndarray, rule: RecordRule, samples_per_shard: int, batch_size: int,
            num_workers: int = 0) -> Iterator[tuple[np.ndarray, Answers]]:
        """Load, replay and ask about samples that no batch had; yields positions and answers, batch by batch."""
        batches = [positions[i:i + batch_size] for i in range(0, len(positions), batch_size)]
        loader = DataLoader(self.viewed.dataset, batch_sampler=[self.viewed.names(view, batch) for batch in batches],
                            num_workers=num_workers if len(batches) > num_workers else 0,
                            collate_fn=self.viewed.collate)
        step = 2 if self.viewed.mixing else 1
        for batch, data in zip(batches, loader, strict=True):
            rows = range(0, step * len(batch), step)
            yield batch, self.answer(data['inputs'], data['data_samples'], rows, batch, rule, samples_per_shard)


def attach_records(samples: Sequence[DataSample], answers: Answers, codec: str, num_classes: int) -> None:
    """Put answers where ``LoadTeacherLogits`` puts records, rounded as the store's codec rounds them.

    Raises:
        StoreError: The teacher gave something that no softmax gives; names the sample.
    """
    topk = answers.index.shape[1]
    asked = check_record(Record(*answers[:4]), len(samples), topk, num_classes,
                         lambda i: f'sample {samples[i].sample_key!r} in view {samples[i].view}')
    packer = make_codec(codec, topk, num_classes)
    record = Record(*packer.decode(packer.encode(*asked[:3])), asked.partner_hash)
    for i, sample in enumerate(samples):
        sample.set_field(record.index[i], 'teacher_index')
        sample.set_field(record.log_prob[i], 'teacher_log_prob')
        sample.set_field(record.tail_mass[i], 'teacher_tail_mass')
        if record.partner_hash is not None:
            sample.set_field(record.partner_hash[i], 'teacher_partner')
