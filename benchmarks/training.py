"""What does a store cost a training, and what does it save? Against plain labels, and against the teacher online.

    python benchmarks/training.py [--quick]
    python benchmarks/training.py --data PHOTOS --rounds 40 --json training.json
    python benchmarks/training.py --classes 21841 --topk 100

TinyViT-5M at 224 pixels on the views of the ImageNet recipes, through the real Runner, loader and hooks:
labels     cross-entropy with labels, the same views, no teacher
stored     distillation from a store
MobileNetV2, ViT-L/16   distillation with that teacher online (random weights; the time is the same)

A block is one epoch over --images photos. All arms live in one process; each round runs a block of each, the order
rotating, and ratios are taken within a round, so that a slow moment of the machine hits all. No image is prefetched
across blocks. Beside the median ratio stands its 95 % interval (bootstrap over the rounds): the bar of 2 % is shown
where the whole interval lies below 1.02. The second table is the direct one: what the parts of a store's path take by
themselves, as a share of an image's whole training time.
"""
import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from pickle import loads

import numpy as np
import torch
import torch.nn.functional as F
from harness import compare, report
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner
from PIL import Image

from mmtinyvit.datasets import SeededAugment
from mmtinyvit.datasets.load_teacher_logits import find_reader
from mmtinyvit.datasets.views import iter_transforms
from mmtinyvit.models.classifiers.students import stored_record
from mmtinyvit.models.losses import sparse_soft_target_loss
from mmtinyvit.paths import config_root

TEACHERS = {'MobileNetV2': 'mobilenetv2_100', 'ViT-L/16': 'vit_large_patch16_224'}


@LOOPS.register_module()
class PreparedLoop(EpochBasedTrainLoop):
    """Gets ready to train, and leaves the epochs to the benchmark."""

    def run(self) -> torch.nn.Module:
        self.runner.call_hook('before_train')
        return self.runner.model


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    logging.getLogger('mmengine').setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(args.data) if args.data else write_photos(Path(folder, 'photos'), args.images)
        save_store(args, root, Path(folder))
        for workers in args.workers:
            settings = dict(args=args, root=root, folder=Path(folder), workers=workers)
            names = ['labels', 'stored', 'MobileNetV2']
            measure(f'{args.images} images a block, {workers} workers', {name: arm(name, **settings) for name in names},
                    args, args.images, args.rounds)
            if args.large_images:
                few = dict(settings, images=args.large_images)
                measure(f'{args.large_images} images a block, {workers} workers',
                        {name: arm(name, **few) for name in ('labels', 'ViT-L/16')}, args, args.large_images,
                        args.large_rounds)
        parts(args, root, Path(folder))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', default=real_photos(), help='photos, a folder per class (default: those of '
                        'MMTINYVIT_DATA/imagenet_sample, or synthetic JPEG files)')
    parser.add_argument('--images', type=int, default=64, help='photos in a block (default: 64)')
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--workers', type=int, nargs='*', default=[2, 0],
                        help='of the loader, one comparison each (default: 2 0); none measures the parts alone')
    parser.add_argument('--rounds', type=int, default=25, help='rounds of the main comparison (default: 25)')
    parser.add_argument('--large-images', type=int, default=16, help='in a block with ViT-L; 0 leaves it out')
    parser.add_argument('--large-rounds', type=int, default=3)
    parser.add_argument('--classes', type=int, default=1000)
    parser.add_argument('--topk', type=int, default=10)
    parser.add_argument('--size', type=int, default=224, help='pixels, for a quick look at the benchmark itself')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--quick', action='store_true', help='few images and rounds, no large teacher, no workers')
    parser.add_argument('--json', metavar='FILE', help='add the tables to this file')
    args = parser.parse_args()
    if args.quick:
        args.images, args.batch_size, args.workers, args.rounds, args.large_images = 16, 8, [0], 3, 0
    return args


# ---------------------------------------------------------------- set-up
def real_photos() -> str | None:
    """The real photos, where there are any."""
    data = os.environ.get('MMTINYVIT_DATA')
    return data and f'{data}/imagenet_sample/val'


def write_photos(root: Path, count: int) -> Path:
    """``count`` JPEG files of 500 x 375 pixels, smooth with some noise, in four class folders."""
    rng = np.random.default_rng(0)
    for i in range(count):
        low = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((500, 375), Image.Resampling.BICUBIC)
        pixels = np.asarray(low, np.int16) + rng.normal(0, 6, (375, 500, 3)).astype(np.int16)
        path = root / f'class_{i % 4}' / f'{i:05d}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return root


def dataset(args: argparse.Namespace, root: Path, images: int, *read: dict) -> dict:
    """Photos with the views of the ImageNet-1K recipes."""
    recipe = Config.fromfile(config_root() / '_base_/imagenet1k.py')
    replay = recipe.replay.to_dict()
    replay['transforms'][0]['scale'] = args.size
    return dict(type='mmtinyvit.ImageFolder', data_root=str(root), indices=images, pipeline=[
        dict(type='mmtinyvit.LoadImage'), replay, *read, dict(type='mmtinyvit.PackViewInputs')])


def runtime(folder: Path) -> dict:
    return dict(default_scope='mmpretrain', work_dir=str(folder / 'work'), log_level='ERROR',
                env_cfg=dict(mp_cfg=dict(opencv_num_threads=0)))


def timm_model(name: str, args: argparse.Namespace) -> dict:
    resize = {} if args.size == 224 else dict(type='mmtinyvit.ReplayDataPreprocessor', input_size=224)
    return dict(type='TimmClassifier', model_name=name, pretrained=False, num_classes=args.classes,
                data_preprocessor=dict(resize, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True))


def save_store(args: argparse.Namespace, root: Path, folder: Path) -> None:
    """One view of the block's photos, by a small random teacher."""
    torch.manual_seed(0)
    Runner.from_cfg(Config(runtime(folder) | dict(
        model=timm_model('test_resnet', args), random_teacher=True, test_evaluator=dict(type='Accuracy'),
        test_dataloader=dict(batch_size=32, num_workers=0, dataset=dataset(args, root, args.images)),
        test_cfg=dict(type='mmtinyvit.SaveLogitsLoop', store=str(folder / 'store'), views=(0, 1), topk=args.topk)),
        format_python_code=False)).test()


def arm(name: str, args: argparse.Namespace, root: Path, folder: Path, workers: int,
        images: int | None = None) -> Runner:
    """A training that is ready for its first epoch."""
    mode = {'labels': None, 'stored': 'stored'}.get(name, 'online')
    read = [dict(type='mmtinyvit.LoadTeacherLogits', store=str(folder / 'store'), mode=mode)] if mode else []
    hook = {'labels': dict(type='mmtinyvit.EpochClockHook', num_views=1),
            'stored': dict(type='mmtinyvit.SparseLogitDistillHook', views=[0])}.get(name)
    if hook is None:
        hook = dict(type='mmtinyvit.CacheLogitsHook', views=[0], topk=args.topk,
                    teacher_model=timm_model(TEACHERS[name], args), random_teacher=True)
    runner = Runner.from_cfg(Config(runtime(folder) | dict(
        model=dict(
            type='mmtinyvit.DistillClassifier' if mode else 'ImageClassifier',
            backbone=dict(type='mmtinyvit.TinyViT', arch='5m'),
            head=dict(type='LinearClsHead', num_classes=args.classes, in_channels=320)),
        data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
        train_dataloader=dict(
            batch_size=args.batch_size, num_workers=workers, persistent_workers=workers > 0, drop_last=True,
            sampler=dict(type='DefaultSampler', shuffle=True), collate_fn=dict(type='default_collate'),
            dataset=dataset(args, root, images or args.images, *read)),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-5)),
        train_cfg=dict(type='PreparedLoop', max_epochs=1_000_000),
        default_hooks=dict(checkpoint=None, logger=None), custom_hooks=[hook]), format_python_code=False))
    runner.train()
    return runner


# ---------------------------------------------------------------- measuring
def measure(title: str, arms: dict[str, Runner], args: argparse.Namespace, images: int, rounds: int) -> None:
    """Interleaved blocks, and a table of images per second."""
    images = images // args.batch_size * args.batch_size
    seconds: dict[str, list[float]] = {name: [] for name in arms}

    def block(name: str) -> Callable[[], None]:
        def run() -> None:
            start = time.perf_counter()
            arms[name].train_loop.run_epoch()
            seconds[name].append(time.perf_counter() - start)

        return run

    compared = compare({name: block(name) for name in arms}, repeats=rounds, warmup=1)
    rng, base = np.random.default_rng(0), np.array(seconds['labels'][1:])
    rows = {}
    for name, result in compared.items():
        ratios = np.array(seconds[name][1:]) / base
        medians = np.median(rng.choice(ratios, (2000, len(ratios))), axis=1)
        low, high = np.quantile(medians, [.025, .975])
        rows[name] = {'images/s': images / result['median_s'], 'time over labels': result['ratio'],
                      '95 % from': float(low), 'to': float(high), 'rounds': len(ratios)}
    report(f'TinyViT-5M, {args.size} px, batch {args.batch_size}, top {args.topk} of {args.classes:,}, {title}', rows,
           args.json, **vars(args))


def per_image(function: Callable[[], object], images: int, repeats: int = 30) -> float:
    """Median microseconds per image."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times)) / images * 1e6


def parts(args: argparse.Namespace, root: Path, folder: Path) -> None:
    """What only a training from a store does, per image, in one process and without images."""
    runner = arm('stored', args, root, folder, 0)
    runner.train_loop.run_epoch()  # sets the view
    data, reader = runner.train_dataloader.dataset, find_reader(runner.train_dataloader.dataset)
    indices = np.random.default_rng(0).permutation(len(data)).tolist()
    items = [data[i] for i in indices]
    named = [dict(sample_key=s.sample_key, view=s.view, aug_seed=s.aug_seed) for s in
             (item['data_samples'] for item in items)]
    count = args.batch_size
    batches = [named[start:start + count] for start in range(0, len(named), count)]
    replay = next(each for each in iter_transforms(data) if isinstance(each, SeededAugment))
    for batch in batches:
        replay.plan(batch)
    samples = [item['data_samples'] for item in items[:count]]
    plain = [each.clone() for each in samples]
    for each in plain:
        for field in ('teacher_index', 'teacher_log_prob', 'teacher_tail_mass'):
            delattr(each, field)
    logits = torch.randn(count, args.classes, requires_grad=True)
    labels = torch.zeros(count, dtype=torch.int64)

    def transfer(batch: list) -> Callable[[], object]:
        return lambda: loads(bytes(ForkingPickler.dumps(default_collate([dict(data_samples=s) for s in batch]))))

    def sparse() -> None:
        sparse_soft_target_loss(logits, stored_record(samples, logits.device)).mean().backward()

    read = per_image(lambda: [(reader.plan(batch), *map(reader, map(dict, batch))) for batch in batches], len(named))
    moved = per_image(transfer(samples), count) - per_image(transfer(plain), count)
    loss = per_image(sparse, count) - per_image(lambda: F.cross_entropy(logits, labels).backward(), count)
    label = arm('labels', args, root, folder, 0)
    label.train_loop.run_epoch()
    images = args.images // count * count
    whole = per_image(label.train_loop.run_epoch, images, 3)
    rows = {name: {'us per image': value, '% of label training': 100 * value / whole} for name, value in (
        ('LoadTeacherLogits', read), ('collate and transfer', moved), ('loss, beyond cross-entropy', loss),
        ('together', read + moved + loss), ('label training', whole))}
    report(f'The parts, 0 workers, batch {count}, top {args.topk} of {args.classes:,}', rows, args.json, **vars(args))


if __name__ == '__main__':
    main()
