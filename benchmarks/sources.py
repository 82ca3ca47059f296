"""The same photos as folders, archives, shards and in a bucket: views per second through the whole loader.

    python benchmarks/sources.py [--quick] [--json sources.json]

Photos are those of MMTINYVIT_DATA/imagenet_sample (real, short side up to 256), or random JPEG files without it. Each
layout is indexed and read by mmtinyvit.IndexedImages with the views of the IN-21K recipe at 224 pixels, shuffled, by
--workers persistent workers; epochs take turns. `not in memory` asks the system before each epoch to forget the files
(POSIX_FADV_DONTNEED), which a virtual machine's disk may still remember. The bucket is moto's S3 in a process of its
own on this machine, read without a local cache. That server is Python too and takes its share of the cores; where nginx
is installed, it stands before it and sends the objects' bytes itself.

The second table is what opening costs, in a new process, for this data set and for 14 million images. The third stands
beside what users would pick: timm's data set, transforms and Pillow (the original's loader), and mmpretrain's, with the
same recipe, on one core in its processor time.
"""
import argparse
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from harness import compare, report
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from PIL import Image
from torch.utils.data import DataLoader

from mmtinyvit.datasets.images.index import IndexBlock, write_index
from mmtinyvit.datasets.images.scan import index_images
from mmtinyvit.paths import config_root

BATCH = 64
PER_SHARD = 250
FOURTEEN_MILLION = (19_167, 741)  # classes, images of each
OPEN = """
import sys, time
from mmtinyvit.datasets import IndexedImages

def held():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * 4096

before, start = held(), time.perf_counter()
dataset = IndexedImages(*sys.argv[1:3], lazy_init=True)
dataset.full_init()
dataset.get_data_info(len(dataset) // 2)
print(time.perf_counter() - start, held() - before, len(dataset))
"""
NGINX = """
daemon off; user root; error_log /dev/null; pid {scratch}/nginx.pid;
events {{}}
http {{
    access_log off; sendfile on; keepalive_requests 1000000; client_max_body_size 0;
    server {{
        listen 127.0.0.1:5078;
        location / {{ proxy_pass http://127.0.0.1:5077; proxy_set_header Host $http_host; }}
        location ~ ^/photos/(.+)$ {{
            limit_except GET {{ deny all; }}
            error_page 403 = @others;
            alias {folder}/$1;
        }}
        location @others {{ proxy_pass http://127.0.0.1:5077; proxy_set_header Host $http_host; }}
    }}
}}
"""


def main() -> None:
    args = parse_args()
    cv2.setNumThreads(0)
    init_default_scope('mmpretrain')
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        photos = write_folders(root / 'folders', args)
        write_archives(root, photos)
        roots = {name: str(root / name) for name in ('folders', 'zip per class', 'tar per class', 'tars in a tar',
                                                     'shards')}
        for name, place in roots.items():
            index_images(place, root / f'{name}.index')
        parts = dict(opening=partial(opening, root, roots, args), layouts=partial(layouts, root, roots, photos, args),
                     peers=partial(compare_peers, root, args))
        for name, part in parts.items():
            if args.only in (None, name):
                part()


def opening(root: Path, roots: dict[str, str], args: argparse.Namespace) -> None:
    report('opening, in a new process', time_opening(root, roots), args.json)


def layouts(root: Path, roots: dict[str, str], photos: list[Path], args: argparse.Namespace) -> None:
    loaders = {name: loader(root / f'{name}.index', place, args) for name, place in roots.items()}
    title = f'{len(photos)} photos, {args.workers} workers, '
    with bucket(root / 'shards') as url:
        if url:
            index_images(url, root / 's3.index')
            name = f'shards in S3 ({"nginx" if shutil.which("nginx") else "moto"})'
            loaders[name] = loader(root / 's3.index', url, args)
        report(title + 'files in memory', with_rates(compare(
            {name: partial(epoch, each) for name, each in loaders.items()}, args.rounds, warmup=1), photos), args.json)
    report(title + 'files not in memory', with_rates(compare(
        {name: partial(forgetful_epoch, loaders[name], place) for name, place in roots.items()}, args.rounds,
        warmup=0), photos), args.json)


def compare_peers(root: Path, args: argparse.Namespace) -> None:
    report('a view on one core, processor time', compare(
        {name: partial(processor_seconds, dataset) for name, dataset in peers(root, args).items()}, args.rounds,
        warmup=1), args.json)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=1000)
    parser.add_argument('--photos', metavar='FOLDER', help='folder with JPEG files to use instead')
    parser.add_argument('--only', choices=['opening', 'layouts', 'peers'], help='one part only')
    parser.add_argument('--rounds', type=int, default=7, help='epochs of each layout')
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--quick', action='store_true', help='200 images, 3 rounds')
    parser.add_argument('--json', metavar='FILE', help='add the tables to this file')
    args = parser.parse_args()
    if args.quick:
        args.images, args.rounds = 200, 3
    return args


# ---------------------------------------------------------------- the photos in every layout
def write_folders(root: Path, args: argparse.Namespace) -> list[Path]:
    """Twenty classes of photos; a training set's classes have hundreds of images, the sample's one each."""
    data = os.environ.get('MMTINYVIT_DATA')
    folder = args.photos or (data and f'{data}/imagenet_sample')
    found = sorted(path for path in Path(folder).rglob('*.*') if path.suffix.lower() in ('.jpg', '.jpeg')
                   ) if folder else []
    rng = np.random.default_rng(0)
    photos = []
    for number in range(args.images):
        path = root / f'n{number * 20 // args.images:08d}' / f'{number:08d}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        if found:
            shutil.copyfile(found[number * len(found) // args.images], path)
        else:
            coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
            cv2.imwrite(str(path), cv2.resize(coarse, (341, 256), interpolation=cv2.INTER_CUBIC))
        photos.append(path)
    return photos


def write_archives(root: Path, photos: list[Path]) -> None:
    classes = sorted({photo.parent for photo in photos})
    for name in ('zip per class', 'tar per class', 'tars in a tar', 'shards'):
        (root / name).mkdir()
    for folder in classes:
        with zipfile.ZipFile(root / 'zip per class' / f'{folder.name}.zip', 'w') as archive:
            for photo in sorted(folder.iterdir()):
                archive.write(photo, photo.name)
        with tarfile.open(root / 'tar per class' / f'{folder.name}.tar', 'w') as archive:
            for photo in sorted(folder.iterdir()):
                archive.add(photo, photo.name)
    with tarfile.open(root / 'tars in a tar/whole.tar', 'w') as archive:
        for path in sorted((root / 'tar per class').iterdir()):
            archive.add(path, path.name)
    order = random.Random(0).sample(photos, len(photos))
    for first in range(0, len(order), PER_SHARD):
        with tarfile.open(root / 'shards' / f'train-{first // PER_SHARD:06d}.tar', 'w') as archive:
            for photo in order[first:first + PER_SHARD]:
                archive.add(photo, photo.name)
                label = tarfile.TarInfo(f'{photo.stem}.cls')
                label.size = 2
                archive.addfile(label, io.BytesIO(f'{classes.index(photo.parent):02d}'.encode()))


@contextmanager
def bucket(folder: Path) -> Iterator[str | None]:
    """A URL of the folder's files in an S3 server on this machine; None if moto or s3fs is not installed."""
    try:
        import moto.server  # noqa: F401
        import s3fs
    except ImportError:
        yield None
        return
    os.environ.update(AWS_ACCESS_KEY_ID='key', AWS_SECRET_ACCESS_KEY='secret', AWS_DEFAULT_REGION='us-east-1',
                      AWS_EC2_METADATA_DISABLED='true', AWS_ENDPOINT_URL='http://127.0.0.1:5077')
    servers = [[sys.executable, '-m', 'moto.server', '-p', '5077']]
    if shutil.which('nginx'):
        os.environ['AWS_ENDPOINT_URL'] = 'http://127.0.0.1:5078'
        (folder.parent / 'nginx.conf').write_text(NGINX.format(folder=folder, scratch=folder.parent))
        servers.append(['nginx', '-c', str(folder.parent / 'nginx.conf')])
    running = [subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for server in servers]
    try:
        system = s3fs.S3FileSystem()
        for _ in range(100):
            try:
                system.mkdir('photos')
                break
            except Exception:  # they are starting
                time.sleep(.2)
        for path in sorted(folder.glob('*.tar')):
            system.put_file(str(path), f'photos/{path.name}')
        yield 's3://photos'
    finally:
        for server in running:
            server.terminate()
            server.wait()


# ---------------------------------------------------------------- what is timed
def loader(index: Path, root: str, args: argparse.Namespace) -> DataLoader:
    cfg = Config.fromfile(config_root() / '_base_/imagenet1k.py')
    pipeline = cfg.train_pipeline
    pipeline[1].update(view=0)
    dataset = DATASETS.build(dict(type='mmtinyvit.IndexedImages', ann_file=str(index), data_root=root,
                                  pipeline=pipeline))
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=args.workers, persistent_workers=True,
                      collate_fn=default_collate, generator=torch.Generator().manual_seed(0))


def epoch(batches: DataLoader) -> None:
    for _ in batches:
        pass


def forgetful_epoch(batches: DataLoader, root: str) -> float:
    for path in Path(root).rglob('*'):
        if path.is_file():
            with open(path, 'rb') as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    start = time.perf_counter()
    epoch(batches)
    return time.perf_counter() - start


def with_rates(results: dict[str, dict], photos: list[Path]) -> dict[str, dict]:
    """Images per second, and the speed in shares of the first row's."""
    return {name: {'images/s': len(photos) / row['median_s'], 'speed, folders = 1': 1 / row['ratio']}
            for name, row in results.items()}


def time_opening(root: Path, roots: dict[str, str]) -> dict[str, dict]:
    """Seconds and memory from nothing to a sample's place."""
    write_fourteen_million(root / 'large.index')
    (root / 'large').mkdir()
    (root / 'large/whole.tar').touch()
    rows = {}
    for name, (index, place) in {
            **{name: (root / f'{name}.index', place) for name, place in roots.items()},
            '14.2 million images in tars in a tar': (root / 'large.index', root / 'large')}.items():
        took, peak, count = subprocess.run([sys.executable, '-c', OPEN, str(index), str(place)], check=True,
                                           capture_output=True, text=True).stdout.split()[-3:]
        rows[name] = {'images': int(count), 'open_s': float(took), 'memory_bytes': int(peak)}
    (root / 'large.index').unlink()
    return rows


def write_fourteen_million(path: Path) -> None:
    count, per_class = FOURTEEN_MILLION
    row = np.arange(per_class)
    columns = dict(archive=0 * row, offsets=100_000 * row, sizes=0 * row + 99_000, methods=0 * row, crcs=row)
    names = [f'n{number:08d}' for number in range(count)]
    write_index(path, (IndexBlock([f'{name}/{name}_{image}.JPEG' for image in range(per_class)],
                                  np.full(per_class, number), columns) for number, name in enumerate(names)),
                'class-archives', names, [('whole.tar', 0)])


def peers(root: Path, args: argparse.Namespace) -> dict[str, object]:
    """Data sets over the same folders with the same recipe."""
    from timm.data import create_dataset, create_transform
    torch.set_num_threads(1)
    cfg = Config.fromfile(config_root() / '_base_/imagenet1k.py')
    cfg.train_pipeline[1].update(view=0)
    ours = DATASETS.build(dict(type='mmtinyvit.IndexedImages', ann_file=str(root / 'folders.index'),
                               data_root=str(root / 'folders'), pipeline=cfg.train_pipeline))
    timm = create_dataset('', str(root / 'folders'))
    transform = create_transform(224, is_training=True, auto_augment='rand-m9-mstd0.5-inc1', re_prob=.25,
                                 re_mode='pixel', interpolation='bicubic')

    def again(image: Image.Image) -> torch.Tensor:
        """timm's posterize asks for 0 bits now and then, which Pillow 13 refuses."""
        try:
            return transform(image)
        except ValueError:
            return again(image)

    timm.transform = again
    crop, *rest = cfg.view_transforms
    theirs = [dict(type='LoadImageFromFile'),
              dict(crop, type='RandomResizedCrop', backend='pillow', interpolation='bicubic'),
              *(dict(each, type=each['type'].removeprefix('mmtinyvit.')) for each in rest), dict(type='PackInputs')]
    mmpretrain = DATASETS.build(dict(type='CustomDataset', data_root=str(root / 'folders'), pipeline=theirs))
    return {'mmtinyvit': ours, 'timm': timm, 'mmpretrain': mmpretrain}


def processor_seconds(dataset: object) -> float:
    start = time.thread_time()
    indices = range(min(len(dataset), 200))
    if hasattr(dataset, '__getitems__'):
        for first in range(0, len(indices), BATCH):
            dataset.__getitems__(indices[first:first + BATCH])
    else:
        for index in indices:
            dataset[index]
    return (time.thread_time() - start) / len(indices)


if __name__ == '__main__':
    main()
