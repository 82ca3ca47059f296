"""What a student loses by shorter records: one teacher, the same views and seeds, and only the records differ.

    MMTINYVIT_DATA=... python benchmarks/records.py                 # about 20 minutes on 2 cores
    MMTINYVIT_DATA=... python benchmarks/records.py --photos 400 --epochs 1 --seeds 1

MobileNetV2 answers once for a few replayed views of Imagenette's photos. Its 1,000 probabilities are cut, drawn, packed
and unpacked by each rule and codec, and the same small TinyViT learns from each kind of record. The first row learns
from all 1,000 probabilities. Bytes are those of a record, without checksums; of the codec smallest, the mean over all
views, of which the first is the reference. The divergence is that of the student's answer from the teacher's on photos
that it has not learnt from, in nats.
"""
import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from harness import report
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.runner import build_runner, use_checkpoint
from mmtinyvit.engine.record_rule import RecordRule
from mmtinyvit.engine.runner import TeacherRunner
from mmtinyvit.engine.teacher import Teacher
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation import match_classes
from mmtinyvit.models.losses import sparse_soft_target_loss
from mmtinyvit.paths import mim_root
from mmtinyvit.store import Record, make_codec
from mmtinyvit.store.codecs import cut_lengths

CLASSES, SIDE, BATCH = 1000, 48, 64
RULES = {
    'exact, K = 10': ('exact', dict(topk=10)),
    'compact, K = 10': ('compact', dict(topk=10)),
    'smallest, K = 10': ('smallest', dict(topk=10)),
    'compact, K = 50': ('compact', dict(topk=50)),
    'smallest, K = 50': ('smallest', dict(topk=50)),
    'smallest, K = 50, keep_mass 0.99': ('smallest', dict(topk=50, keep_mass=0.99)),
    'smallest, K = 50, keep_mass 0.9': ('smallest', dict(topk=50, keep_mass=0.9)),
    'smallest, 10 draws': ('smallest', dict(topk=10, sampling=dict(draws=10))),
    'smallest, 30 draws': ('smallest', dict(topk=30, sampling=dict(draws=30))),
    'smallest, 50 draws': ('smallest', dict(topk=50, sampling=dict(draws=50))),
}
STUDENT = dict(
    type='ImageClassifier',
    backbone=dict(type='mmtinyvit.TinyViT', arch=dict(
        embed_dims=(16, 32, 64, 96), depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 3), window_sizes=(4, 4, 4, 2))),
    head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=96))


class Photos:
    """Views of photos, small, and what the teacher says about them.

    Attributes:
        images: ``(V, N, 3, 48, 48)`` uint8.
        logits: ``(V, N, 1000)`` float32, the teacher's.
        keys: N keys.
        labels: N classes among the teacher's 1,000.
    """

    def __init__(self, teacher: Teacher, num: int, views: int, index: list[int]) -> None:
        dataset = teacher.dataset.dataset
        where = np.unique(np.linspace(0, len(dataset) - 1, min(num, len(dataset))).round().astype(int))
        self.keys = [key for i, key in enumerate(teacher.keys()) if i in set(where.tolist())]
        self.labels = torch.tensor([index[dataset.get_data_info(int(i))['gt_label']] for i in where])
        images, logits = [], []
        for view in range(views):
            for _, data in teacher.batches(view, where, BATCH):
                logits.append(teacher.logits(data).float())
                images.append(F.interpolate(data['inputs'].float(), SIDE, mode='bilinear', antialias=True).byte())
        self.images = torch.cat(images).view(views, len(where), 3, SIDE, SIDE)
        self.logits = torch.cat(logits).view(views, len(where), CLASSES)


def make_records(photos: Photos, codec_name: str, rule: RecordRule) -> tuple[list[Record], float]:
    """The records of each view as a store would give them back, and their mean bytes."""
    codec, reference, records, sizes = make_codec(codec_name, rule.topk, CLASSES), None, [], []
    for view, logits in enumerate(photos.logits):
        packed = codec.encode(rule(logits, 0, view, photos.keys), reference)
        sizes.append(cut_lengths(packed).mean() if codec.variable else codec.record_bytes)
        records.append(codec.decode(packed, reference).to('cpu'))
        if codec.relative and reference is None:
            reference = packed
    return records, float(np.mean(sizes))


def train(photos: Photos, records: list[Record], epochs: int, seed: int) -> torch.nn.Module:
    """The student after ``epochs`` epochs; order and weights follow from the seed."""
    torch.manual_seed(seed)
    student = MODELS.build(STUDENT)
    student.init_weights()
    student.train()
    optimizer = torch.optim.AdamW(student.parameters(), 2e-3, weight_decay=0.05)
    steps = -(-len(photos.keys) // BATCH) * epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(
        (step + 1) / (1 + steps // 10), (1 + math.cos(math.pi * step / steps)) / 2))
    for epoch in range(epochs):
        view = epoch % len(records)
        for rows in torch.randperm(len(photos.keys)).split(BATCH):
            logits = student(normalised(photos.images[view, rows]), mode='tensor')
            loss = sparse_soft_target_loss(logits, records[view].row(rows)).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
            optimizer.step()
            schedule.step()
    return student.train(False)


def normalised(images: Tensor) -> Tensor:
    return (images.float() - 118) / 58


@torch.inference_mode()
def judge(student: torch.nn.Module, photos: Photos, index: list[int]) -> tuple[float, float]:
    """Top-1 over the ten classes in percent, and the mean divergence from the teacher in nats."""
    logits = torch.cat([student(normalised(part), mode='tensor') for part in photos.images[0].split(256)])
    top1 = (torch.tensor(index)[logits[:, index].argmax(1)] == photos.labels).float().mean()
    teacher, said = photos.logits[0].log_softmax(1), logits.log_softmax(1)
    return 100 * float(top1), float((teacher.exp() * (teacher - said)).sum(1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--photos', type=int, default=2000, help='photos to learn from (default: 2000)')
    parser.add_argument('--views', type=int, default=3, help='views of each (default: 3)')
    parser.add_argument('--epochs', type=int, default=10, help='epochs (default: 10)')
    parser.add_argument('--seeds', type=int, default=2, help='students per kind of record (default: 2)')
    parser.add_argument('--json', help='file to add the table to')
    args = parser.parse_args()
    data = os.environ.get('MMTINYVIT_DATA')
    if not data:
        raise UserError('benchmarks/records.py needs MMTINYVIT_DATA, the folder with imagenette96/ and '
                        'teacher_mobilenetv2/.')
    cfg = Config.fromfile(mim_root() / 'configs/imagenette/save_logits.py')
    cfg.work_dir = 'work_dirs/records'
    use_checkpoint(cfg, str(next(Path(data, 'teacher_mobilenetv2').glob('*.pth'))))
    model = build_runner(cfg, TeacherRunner).model
    dataset = cfg.test_dataloader.dataset
    init_default_scope('mmpretrain')
    teacher = Teacher(model, dataset)
    index = match_classes('in1k', teacher.dataset.dataset.metainfo['classes']).tolist()
    photos = Photos(teacher, args.photos, args.views, index)
    unseen = Photos(Teacher(model, dataset | dict(data_prefix='val')), args.photos // 3, 1, index)
    kinds = {'all 1,000 classes': (dense_records(photos), 4.0 * CLASSES)}
    kinds |= {name: make_records(photos, codec, RecordRule(**rule)) for name, (codec, rule) in RULES.items()}
    rows = {}
    for name, (records, size) in kinds.items():
        start = time.perf_counter()
        results = np.array([judge(train(photos, records, args.epochs, seed), unseen, index)
                            for seed in range(args.seeds)])
        rows[name] = {'bytes': round(size, 1), 'top-1 (%)': float(results[:, 0].mean()),
                      'of each seed': ', '.join(f'{value:.1f}' for value in results[:, 0]),
                      'KL': float(results[:, 1].mean())}
        print(f'{name}: {rows[name]}, {time.perf_counter() - start:.0f} s', flush=True)
    report(f'{args.photos} photos, {args.views} views, {args.epochs} epochs, {args.seeds} seeds', rows, args.json)


def dense_records(photos: Photos) -> list[Record]:
    """The whole distribution in the form of a record with K = C."""
    everything = torch.arange(CLASSES).expand(len(photos.keys), -1)
    return [Record(everything, logits.log_softmax(1), torch.zeros(len(logits))) for logits in photos.logits]


if __name__ == '__main__':
    run_command(main)
