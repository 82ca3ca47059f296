"""Saving by teachers in a pool of Ray actors: the cluster, the actors, and the driver."""
import argparse
import os
import socket
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from mmtinyvit.engine.runner import TeacherRunner
from mmtinyvit.engine.saving_progress import SavingProgress
from mmtinyvit.engine.unit_saver import UnitSaver, group_units
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore, LogitWriter, Manifest, PartWriter, Record, StoreError, Unit, pack_unit
from mmtinyvit.store.layout import spell_numbers
from mmtinyvit.store.shard import Shard

from .actor_pool import Failed, hand_out
from .runner import build_runner

__all__ = ['RaySaving', 'TeacherActor', 'connect', 'refuse_incomplete', 'save_with_ray']

CONNECT_SECONDS = 10
MOST_REASONS = 5  # in one sentence

# ---------------------------------------------------------------- the cluster
def connect(address: str) -> Any:
    """The module ``ray``, connected to a cluster.

    Raises:
        UserError: Ray is not installed, there is no cluster at ``address``, or none can be started here.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError('--ray needs Ray, which is not installed: pip install "mmtinyvit[ray]".') from error
    address = address or os.environ.get('RAY_ADDRESS') or 'local'
    host, _, port = address.removeprefix('ray://').rpartition(':')
    try:
        if port.isdecimal():  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address, logging_level='WARNING')
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition('\n')[0][:200] or type(error).__name__
        if address == 'local':
            raise UserError(f'Ray cannot start a cluster on this machine ({reason}): look for memory, and for room in '
                            'its folder, which is /tmp/ray or in RAY_TMPDIR.') from error
        raise UserError(f'There is no Ray cluster at {address} ({reason}): start one with "ray start --head", correct '
                        '--ray, or leave its ADDRESS out.') from error
    return ray


def _resources(ray: Any, args: argparse.Namespace) -> tuple[dict[str, float], int]:
    """What an actor needs, and how many actors to ask for. Raises :class:`UserError` if the fewest do not fit."""
    total = ray.cluster_resources()
    gpus = args.gpus_per_actor if args.gpus_per_actor is not None else float(total.get('GPU', 0) >= 1)
    need = {'GPU': gpus, 'CPU': 1. if args.cpus_per_actor is None else args.cpus_per_actor}
    room = int(min((total.get(name, 0) / amount for name, amount in need.items() if amount), default=1))
    least, most = args.actors or (1, max(room, 1))
    if room < least:
        name = min((name for name in need if need[name]), key=lambda name: total.get(name, 0) / need[name])
        raise UserError(f'The Ray cluster has {total.get(name, 0):g} {name}s, and {least} actors with {need[name]:g} '
                        f'each need {least * need[name]:g}: start more nodes, or ask for fewer with --actors or '
                        f'--{name.lower()}s-per-actor.')
    return dict(num_gpus=need['GPU'], num_cpus=need['CPU']), most


# ---------------------------------------------------------------- the actors
class _HandBack:
    """Packs shards and keeps their bytes, for a store in a folder that only the driver writes to.

    Args:
        manifest: The store's.
        references: The files of shards that others are coded relative to.
    """

    def __init__(self, manifest: Manifest, references: Mapping[Unit, bytes]) -> None:
        self.manifest, self.known = manifest, dict(references)

    def write_shard(self, unit: Unit, record: Record, canaries: Mapping[int, bytes]) -> bytes:
        needed = self.manifest.reference.of(unit)
        with tempfile.NamedTemporaryFile() as file:
            if needed:
                file.write(self.known[needed])
                file.flush()
            reference = needed and Shard(Path(file.name), self.manifest, needed)
        self.known[unit] = b''.join(pack_unit(self.manifest, unit, record, canaries, reference))
        return self.known[unit]


class TeacherActor:
    """A teacher in a process that Ray starts, wherever it finds room, and starts again.

    Args:
        config: Of the saving, as plain dicts.
        filename: Of the config.
        manifest: The store's.
    """

    def __init__(self, config: dict, filename: str | None, manifest: Manifest) -> None:
        self.config, self.filename, self.manifest = config, filename, manifest

    def alive(self) -> None:
        """Returns."""

    def start(self) -> None:
        """Builds the teacher. Raises :class:`UserError` if its answers would belong to another store."""
        self.scratch = tempfile.TemporaryDirectory(prefix='mmtinyvit-')
        cfg = Config(self.config | dict(work_dir=self.scratch.name, log_level='ERROR', launcher='none'),
                     filename=self.filename, format_python_code=False)
        if cfg.get('custom_imports'):
            import_modules_from_strings(**cfg.custom_imports)
        loop = build_runner(cfg, TeacherRunner).build_test_loop(cfg.test_cfg)
        lines = self.manifest.differences(Manifest.parse(loop.request(), 'What this actor would save'))
        if lines:
            raise UserError(f'The machine {os.uname().nodename} would save another store (the store != this machine): '
                            f'{"; ".join(lines)}. Give all machines the same data, checkpoint and library.')
        self.saver = UnitSaver(loop.teacher, self.manifest, loop.batch_size, loop.num_workers)

    def save(self, group: tuple[Unit, ...], references: Mapping[Unit, bytes], url: str | None) -> list[bytes | None]:
        """Saves units of the same samples: to ``url``, or else the bytes of their shards are what comes back."""
        writer = PartWriter.attach(url, self.manifest) if url else _HandBack(self.manifest, references)
        return [result for _, result in self.saver.save_units([group], writer.write_shard)]


# ---------------------------------------------------------------- the driver
class RaySaving:
    """What is missing in a store, as tasks for actors, and what becomes of the results.

    Args:
        writer: Of the store. At a URL the actors put their shards themselves; into a folder the driver does.
        groups: Units that are missing, in an order in which they can be written.
        progress: Counts what is saved.
    """

    def __init__(self, writer: LogitWriter | PartWriter, groups: Iterable[list[Unit]],
                 progress: SavingProgress) -> None:
        self.writer, self.progress = writer, progress
        self.url = writer.root if isinstance(writer, PartWriter) else None
        groups = [tuple(group) for group in groups]
        missing = {unit for group in groups for unit in group}
        self.possible: list[tuple[Unit, ...]] = []
        self.waiting: dict[Unit, list[tuple[Unit, ...]]] = {}  # by the unit that they are coded relative to
        for group in groups:
            needed = writer.manifest.reference.of(group[-1])  # the same for all of the group, or in it
            if needed in missing and needed not in group:
                self.waiting.setdefault(needed, []).append(group)
            else:
                self.possible.append(group)

    def call(self, actor: Any, group: tuple[Unit, ...]) -> Any:
        """Starts a task on an actor."""
        needed = {self.writer.manifest.reference.of(unit) for unit in group} - {None, *group}
        sent = {} if self.url else {unit: (self.writer.root / unit.file).read_bytes() for unit in needed}
        return actor.save.remote(group, sent, self.url)

    def done(self, group: tuple[Unit, ...], result: list[bytes | None]) -> list[tuple[Unit, ...]]:
        """Writes what an actor sent; the tasks that can be done from now on."""
        for unit, data in zip(group, result, strict=True):
            if data is not None:
                self.writer.put(unit, [data])
            self.progress.count(unit.count)
        return [task for unit in group for task in self.waiting.pop(unit, ())]

    def failures(self, failed: list[Failed]) -> dict[Unit, str]:
        """Why each unit was not saved."""
        reasons = {unit: reason for task, reason in failed for unit in task}
        reasons |= {unit: f'{needed} is not saved, to which it is relative'
                    for needed, groups in self.waiting.items() for group in groups for unit in group}
        return {unit: reasons[unit] for unit in sorted(reasons, key=lambda unit: (unit.view, unit.shard))}


def save_with_ray(cfg: Config, args: argparse.Namespace) -> dict[str, Any]:
    """Saves what is missing with actors of a Ray cluster.

    Returns:
        dict: ``samples``, ``seconds`` and ``bytes_per_view`` as of the loop, and ``failed``: why, by unit.

    Raises:
        UserError: As of the loop; there is no Ray, no cluster, or not enough room in it; or no actor can work.
    """
    if cfg.test_cfg.get('join') or cfg.test_cfg.get('part') is not None:
        raise UserError('--ray shares out the work itself: leave out --join and --part.')
    ray = connect(args.ray)
    try:
        resources, most = _resources(ray, args)
        runner = build_runner(cfg, TeacherRunner)
        loop = runner.build_test_loop(cfg.test_cfg)
        start = time.perf_counter()
        with loop.open_writer(loop.request()) as writer:
            groups = group_units(writer.missing(loop.views), loop.views, loop.views_at_once)
            total = sum(unit.count for group in groups for unit in group)
            remote = ray.remote(**resources, max_restarts=-1, max_task_retries=0)(TeacherActor)
            with SavingProgress(runner.logger, total, alone=True) as progress:
                saving = RaySaving(writer, groups, progress)
                actors = [remote.remote(cfg.to_dict(), cfg.filename, writer.manifest)
                          for _ in range(min(most, len(groups)))]
                failed = hand_out(actors, saving.possible, saving.call, saving.done, runner.logger.warning)
        return dict(samples=progress.saved, seconds=time.perf_counter() - start,
                    bytes_per_view=LogitStore(writer.root).bytes_per_view, failed=saving.failures(failed))
    finally:
        ray.shutdown()  # ends the actors of this driver, and a cluster that was started for it


def refuse_incomplete(summary: Mapping[str, Any]) -> None:
    """Raises :class:`StoreError` if units were given up; names them and why, the first few of many."""
    views: dict[tuple[int, str], list[int]] = {}
    for unit, reason in summary['failed'].items():
        views.setdefault((unit.shard, reason), []).append(unit.view)
    if views:
        reasons = [f'shard {shard} of view {spell_numbers(numbers)}: {reason.rstrip(".")}'
                   for (shard, reason), numbers in views.items()]
        more = [f'{len(reasons) - MOST_REASONS} more, which the log names'] if len(reasons) > MOST_REASONS else []
        raise StoreError(f'{len(summary["failed"])} shards were not saved, all others were '
                         f'({"; ".join(reasons[:MOST_REASONS] + more)}): mend what is named, and start again.')
