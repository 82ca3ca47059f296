"""What Ray and a bucket cost a saving; called by saving.py."""
import argparse
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from harness import compare, report

from mmtinyvit.cli.actor_pool import hand_out
from mmtinyvit.cli.ray_saving import connect
from mmtinyvit.store import LogitWriter, PartWriter, Record

__all__ = ['bucket', 'pool']

SHARD = 4096


class Sleeper:
    """An actor whose units are sleeps; writes down each that it begins.

    Args:
        begun: The file.
    """

    def __init__(self, begun: Path) -> None:
        self.begun = begun

    def alive(self) -> None:
        pass

    def start(self) -> int:
        """Its process."""
        return os.getpid()

    def save(self, task: int, seconds: float) -> int:
        """Sleeps for a unit."""
        with open(self.begun, 'a') as file:
            file.write(f'{os.getpid()}\n')
        time.sleep(seconds)
        return task


def pool(args: argparse.Namespace, folder: Path) -> None:
    """The driver's rate, what it adds to a unit of a second, and what a killed actor costs."""
    ray = connect('local')
    workers = 2
    remote = ray.remote(num_cpus=1, max_restarts=-1)(Sleeper)

    def run(name: str, tasks: int, seconds: float, killed: bool = False) -> tuple[float, int]:
        begun = folder / name
        actors = [remote.remote(begun) for _ in range(workers)]
        ray.get([actor.start.remote() for actor in actors])
        if killed:  # the file's first line is of an actor that is in mid-unit then
            def kill() -> None:
                time.sleep(2.5 * seconds)
                os.kill(int(begun.read_text().split()[0]), 9)

            threading.Thread(target=kill).start()
        start = time.perf_counter()
        failed = hand_out(actors, range(tasks), lambda actor, task: actor.save.remote(task, seconds),
                          lambda task, result: (), lambda sentence: None)
        took = time.perf_counter() - start
        assert not failed
        for actor in actors:
            ray.kill(actor)
        return took, len(begun.read_text().split())

    run('warm', 20, 0)
    count = 200 if args.quick else 2000
    empty, _ = run('empty', count, 0)
    units = workers * (3 if args.quick else 10)
    whole, _ = run('second', units, 1.)
    _, begun = run('killed', units, 1., killed=True)
    ray.shutdown()
    ideal = units / workers
    report(f'Ray, {workers} actors', {
        'empty units': {'units/s': count / empty},
        'units of a second': {'added to a unit (%)': 100 * (whole - ideal) / ideal},
        'the same, and an actor is killed': {'units begun again': begun - units}}, args.json, **vars(args))


@contextmanager
def _server() -> Iterator[None]:
    """An S3 on this machine, and where to find it in the environment."""
    import s3fs
    from moto.server import ThreadedMotoServer
    logging.getLogger('werkzeug').setLevel(logging.ERROR)
    server = ThreadedMotoServer('127.0.0.1', 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ.update(AWS_ACCESS_KEY_ID='key', AWS_SECRET_ACCESS_KEY='secret', AWS_DEFAULT_REGION='us-east-1',
                      AWS_ENDPOINT_URL=f'http://{host}:{port}')
    s3fs.S3FileSystem.clear_instance_cache()  # it may know a server of an earlier call
    try:
        yield
    finally:
        server.stop()


def bucket(args: argparse.Namespace, folder: Path, teacher_s: float, topk: int, num_classes: int) -> None:
    """A shard of 4,096 into a folder and into a bucket of this machine, beside the teacher's ``teacher_s`` a view."""
    import fsspec
    rng = np.random.default_rng(0)
    index = np.stack([rng.choice(num_classes, topk, replace=False) for _ in range(SHARD)]).astype(np.int32)
    prob = np.sort(rng.dirichlet(np.full(topk + 1, 0.3), SHARD).astype(np.float32), axis=1)[:, ::-1]
    record = Record(index, np.log(np.maximum(prob[:, :topk], 1e-9)), np.ascontiguousarray(prob[:, topk]))
    request = dict(topk=topk, num_classes=num_classes, samples_per_shard=SHARD)
    keys, views = [f'{i}.jpg' for i in range(SHARD)], iter(range(10**6))
    with _server():
        fsspec.filesystem('s3').mkdir(f'top{topk}')

        def into(writer: LogitWriter | PartWriter) -> Callable[[], None]:
            return lambda: writer.write_shard(writer.manifest.unit(next(views), 0), record)

        with LogitWriter(folder / 'shards', request, keys) as local:
            parts = compare({'into a folder': into(local), 'into a bucket': into(
                PartWriter(f's3://top{topk}/store', request, keys))}, args.repeats)
    report(f'packing and writing a shard of {SHARD:,}, top {topk} of {num_classes:,}', {
        name: {'ms': 1e3 * row['median_s'], '% of the teacher': 100 * row['median_s'] / (teacher_s * SHARD)}
        for name, row in parts.items()}, args.json, **vars(args))
