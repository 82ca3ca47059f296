"""What a replayed view costs to load: stage by stage, what the seeding adds, and what reading the record adds.

    python benchmarks/replay.py [--quick] [--images 300] [--photos FOLDER]

Photos are those of MMTINYVIT_DATA/imagenet_sample (real, short side up to 256), or random JPEG files of 500 x 375
without it. The pipeline is that of the IN-21K recipe at 224 pixels, on one core, in its processor time, so that other
processes do not count, but for what they push out of the caches. Seeded and unseeded transforms draw the same numbers:
the unseeded ones run inside a scope that is entered off the clock, before the image is decoded. All images go through
one, then through the other. Records are read for batches of 128, as the datasets here do. The last but one table takes
seeding and reading by themselves, for one view: again and again, and each time after as many bytes as an image's
augmentation moves.
"""
import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import torch
from harness import report
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS
from replay_transforms import time_policies, time_replaced, time_transforms

from mmtinyvit.datasets import SeededAugment, derive_seed, rng_scope
from mmtinyvit.paths import config_root
from mmtinyvit.store import LogitStore, LogitWriter, Record

BATCH = 128
PUBLISHED = {'5m': 3060, '11m': 2468, '21m': 1571}  # images/s in inference on a V100, TinyViT paper, Table 3


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=300)
    parser.add_argument('--rounds', type=int, default=4, help='times each image is loaded each way')
    parser.add_argument('--photos', metavar='FOLDER', help='folder with JPEG files to load instead')
    parser.add_argument('--quick', action='store_true', help='60 images')
    parser.add_argument('--json', metavar='FILE', help='add the tables to this file')
    args = parser.parse_args()
    args.images = min(args.images, 60) if args.quick else args.images
    return args


def find_photos(folder: str | None, num: int, scratch: Path) -> list[str]:
    """Paths of ``num`` images, spread over what there is."""
    data = os.environ.get('MMTINYVIT_DATA')
    if folder is None and data:
        folder = f'{data}/imagenet_sample'
    if folder is None:
        dice = np.random.default_rng(0)
        for i in range(num):
            coarse = dice.integers(0, 256, (12, 16, 3), np.uint8)
            cv2.imwrite(str(scratch / f'{i}.jpg'), cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC))
        folder = str(scratch)
    files = sorted(str(path) for path in Path(folder).rglob('*') if path.suffix.lower() in ('.jpg', '.jpeg'))
    if not files:
        raise SystemExit(f'{folder} has no JPEG files: name another --photos.')
    return [files[i * len(files) // num] for i in range(num)] if num < len(files) else files


def make_store(folder: Path, keys: list[str], topk: int = 100, num_classes: int = 21_841) -> None:
    """A store of random records for one view."""
    request = dict(topk=topk, num_classes=num_classes)
    with LogitWriter(folder, request, keys) as writer:
        for unit in writer.missing([0]):
            log_prob, index = (2 * torch.randn(unit.count, num_classes)).log_softmax(1).topk(topk)
            tail = (1 - log_prob.exp().sum(1)).clamp_(min=0)
            writer.write_shard(unit, Record(index.numpy(), log_prob.numpy(), tail.numpy()))


class Loader:
    """Loads views with each stage on the clock.

    Attributes:
        seconds: Seconds per image of each stage, in lists.
    """

    def __init__(self, pipeline: list[dict], store: str) -> None:
        self.decode, self.augment, self.pack = (TRANSFORMS.build(cfg) for cfg in pipeline)
        self.read = TRANSFORMS.build(dict(type='mmtinyvit.LoadTeacherLogits', store=store))
        self.seconds: dict[str, list[float]] = {}

    def time(self, stage: str, function: Callable, *args: object) -> object:
        start = time.thread_time()
        result = function(*args)
        self.seconds.setdefault(stage, []).append(time.thread_time() - start)
        return result

    def load_batch(self, files: dict[str, str], seeded: bool) -> None:
        """As a dataset does: names and records of all views, and then each view by itself."""
        infos = [dict(img_path=file, sample_key=key, view=0) for key, file in files.items()]
        self.time('name the views', self.augment.prepare_batch, infos)
        self.time('read the records', self.read.prepare_batch, infos)
        self.time('collate', default_collate, [self.load(info, seeded) for info in infos])
        for stage in ('name the views', 'read the records', 'collate'):
            self.seconds[stage][-1] /= len(infos)

    def load(self, info: dict, seeded: bool) -> dict:
        """One view of one image, augmented in a scope that is on the clock, or else was entered before the decoding."""
        seed = derive_seed(self.augment.base_seed, 0, info['sample_key'])
        with nullcontext() if seeded else rng_scope(seed):
            view = self.time('decode', self.decode, info)
            if seeded:
                view = self.time('augment, seeded', self.augment, view)
            else:
                view = self.time('augment, unseeded', super(SeededAugment, self.augment).transform, view)
                view['aug_seed'] = seed
        return self.time('pack', self.pack, self.time('hand over the record', self.read, view))

    def median(self, stage: str, num: int) -> np.ndarray:
        """Median seconds of each of ``num`` images, which were loaded in the same order in every round."""
        return np.median(np.reshape(self.seconds[stage], (-1, num)), axis=0)

    def mean(self, stage: str) -> float:
        return statistics.fmean(self.seconds[stage])


def load_all(loader: Loader, files: list[str], rounds: int) -> None:
    """Load every image ``rounds`` times with each augmentation, after a round that warms the files."""
    for turn in range(-1, rounds):
        if turn == 0:
            loader.seconds.clear()
        for seeded in (True, False) if turn % 2 else (False, True):
            for start in range(0, len(files), BATCH):
                loader.load_batch({str(i): files[i] for i in range(len(files))[start:start + BATCH]}, seeded)


def time_alone(loader: Loader, rounds: int = 300) -> dict[str, dict]:
    """Seeding and reading, with what they need in the caches and without."""
    numbers = count()

    def seed() -> None:
        with rng_scope(derive_seed(loader.augment.base_seed, 0, str(next(numbers)))):
            pass

    def read() -> None:
        key = str(next(numbers) % loader.read.stores[0].num_samples)
        loader.read(dict(sample_key=key, view=0, aug_seed=derive_seed(loader.augment.base_seed, 0, key)))

    def microseconds(function: Callable[[], None], moved: np.ndarray) -> float:
        found = []
        for _ in range(rounds):
            moved += 1
            start = time.thread_time()
            function()
            found.append(time.thread_time() - start)
        return 1e6 * statistics.median(found)

    return {name: {'at once (us)': microseconds(function, np.zeros(1)),
                   'after 4 MiB (us)': microseconds(function, np.zeros(2**20, np.float32))}
            for name, function in (('seeding and restoring', seed), ('reading a record', read))}


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(config_root() / '_base_/imagenet1k.py')
    with tempfile.TemporaryDirectory() as scratch:
        files = find_photos(args.photos, args.images, Path(scratch))
        store = Path(scratch, 'store')
        make_store(store, [str(i) for i in range(len(files))])
        assert LogitStore(store).num_samples == len(files)
        loader = Loader(cfg.train_pipeline, str(store))
        load_all(loader, files, args.rounds)
        time_transforms(loader, files)
        policies = time_policies(loader, files)
        replaced = time_replaced(loader, files)
        alone = time_alone(loader)
    stages = ['name the views', 'read the records', 'decode', 'augment, seeded', 'hand over the record', 'pack',
              'collate']
    total = sum(loader.mean(stage) for stage in stages)
    stages[4:4] = [stage for stage in loader.seconds if stage.startswith('- ')]
    report(f'loading one view, {len(files)} images x {args.rounds}, one core', {
        stage: {'mean_s': loader.mean(stage), 'share %': 100 * loader.mean(stage) / total} for stage in stages
    }, args.json)
    report('the slowest operations of RandAugment, two of 15 per view', policies, args.json)
    report("transforms here, and mmpretrain's that they stand in for", replaced, args.json)
    seeded, unseeded = (loader.median(f'augment, {how}', len(files)) for how in ('seeded', 'unseeded'))
    naming = statistics.median(loader.seconds['name the views'])
    seeding = float(np.median(seeded - unseeded)) + naming
    record = sum(statistics.median(loader.seconds[stage]) for stage in ('read the records', 'hand over the record'))
    view = total - sum(loader.mean(stage) for stage in ('read the records', 'hand over the record'))
    report('what the replay adds', {
        'SeededAugment over the same transforms unseeded, naming included': {'us per view': 1e6 * seeding,
                                                            '% of the view': 100 * seeding / (total - seeding)},
        'LoadTeacherLogits (K = 100 of 21,841)': {'us per view': 1e6 * record, '% of the view': 100 * record / view},
    }, args.json)
    report('by themselves', alone, args.json)
    rate = 1 / total
    report('cores that a GPU keeps busy', {
        f'TinyViT-{arch}': {'published images/s, inference': speed, 'cores at a third of it': speed / 3 / rate}
        for arch, speed in PUBLISHED.items()}, args.json, images_per_second_per_core=rate)


if __name__ == '__main__':
    main()
