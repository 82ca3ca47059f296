"""UnitSaver: units of work go through a teacher, and each comes out as what its record is made into."""
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from mmtinyvit.datasets import ViewsAtOnce
from mmtinyvit.store import Manifest, Record, Unit

from .teacher import Teacher
from .workers import quiet_workers

__all__ = ['Finish', 'UnitSaver', 'group_units', 'share_of']

Finish = Callable[[Unit, Record, Mapping[int, bytes]], Any]


def group_units(units: Iterable[Unit], views: range, views_at_once: int) -> list[list[Unit]]:
    """Units by the samples and the neighbouring views that go together, in the order in which they come."""
    groups: dict[tuple[int, int], list[Unit]] = {}
    for unit in dict.fromkeys(units):
        groups.setdefault((views.index(unit.view) // views_at_once, unit.shard), []).append(unit)
    return list(groups.values())


def share_of(units: Iterable[Unit], views: range, views_at_once: int, manifest: Manifest, part: int,
             parts: int) -> list[list[Unit]]:
    """The groups of units that are the share of number ``part`` of ``parts``, whatever else is missing.

    Where views are coded relative to another, all views of a shard are in one share, so that no part waits for another.
    """
    def number(unit: Unit) -> int:
        views_before = 0 if manifest.reference.view is not None else views.index(unit.view) // views_at_once
        return views_before * manifest.shards_per_view + unit.shard

    return [group for group in group_units(units, views, views_at_once) if number(group[0]) % parts == part]


class UnitSaver:
    """Runs a teacher over units; where these come from, and where the results go, is the caller's.

    Batches never cross a unit, so what comes out depends on the teacher and the unit alone, not on which other units
    go through, in which order, or on which machine.

    Args:
        teacher: The teacher, with its dataset.
        manifest: The store's.
        batch_size: Views in a batch.
        num_workers: Processes that load them; they are kept from one call to the next.
    """

    def __init__(self, teacher: Teacher, manifest: Manifest, batch_size: int, num_workers: int = 0) -> None:
        self.teacher, self.manifest = teacher, manifest
        self._batches = _Batches(teacher, batch_size)
        self._loader = quiet_workers(DataLoader(
            ViewsAtOnce(teacher.dataset), batch_sampler=self._batches, num_workers=num_workers,
            persistent_workers=num_workers > 0, collate_fn=teacher.collate_views,
            pin_memory=torch.cuda.is_available()))

    def save_units(self, groups: Iterable[Sequence[Unit]], finish: Finish,
                   count: Callable[[int], None] = lambda views: None) -> Iterator[tuple[Unit, Any]]:
        """One stream over many units: loading, the teacher, and ``finish`` go on at the same time.

        Args:
            groups: Units of the same samples in several views, whose images are decoded once. The next group is taken
                when its first batch is to be loaded.
            finish: Called with a unit, its record and its canaries, in a thread of its own, one unit after the other,
                in the order in which they become whole. So a unit may be coded relative to one before it.
            count: Called with the number of views that the teacher has just seen.

        Yields:
            Each unit and what ``finish`` returned.
        """
        self._batches.groups, size = groups, self.manifest.samples_per_shard
        finishing: deque[tuple[Unit, Future]] = deque()
        with ThreadPoolExecutor(1) as thread:
            for batches in self._loader:
                parts, positions = self._batches.in_flight.popleft()
                for part, batch in zip(parts, batches, strict=True):
                    part.records.append(self.teacher.ask(batch))
                    part.canaries |= self.teacher.canaries(batch, positions, size)
                    if positions[-1] + 1 == part.unit.first + part.unit.count:
                        while len(finishing) >= len(parts):
                            unit, result = finishing.popleft()
                            yield unit, result.result()
                        finishing.append((part.unit, thread.submit(finish, part.unit, Record.concat(part.records),
                                                                   part.canaries)))
                        part.records.clear()
                    count(len(positions))
            for unit, result in finishing:
                yield unit, result.result()

    def save_unit(self, unit: Unit, finish: Finish) -> Any:
        """What ``finish`` makes of one unit; with ``partial(pack_unit, manifest)``, the bytes of its shard."""
        (_, result), = self.save_units([[unit]], finish)
        return result


@dataclass
class _Part:
    """What is known of a unit until it is whole."""
    unit: Unit
    records: list[Record] = field(default_factory=list)
    canaries: dict[int, bytes] = field(default_factory=dict)


class _Batches:
    """The batch sampler: items of the dataset, batch by batch, of ``groups``; notes in ``in_flight`` what they are."""

    def __init__(self, teacher: Teacher, batch_size: int) -> None:
        self.teacher, self.batch_size = teacher, batch_size
        self.groups: Iterable[Sequence[Unit]] = ()
        self.in_flight: deque[tuple[list[_Part], np.ndarray]] = deque()

    def __iter__(self) -> Iterator[list[tuple]]:
        self.in_flight.clear()  # of a call that failed
        for group in self.groups:
            parts = [_Part(unit) for unit in group]
            first, end = group[0].first, group[0].first + group[0].count
            for start in range(first, end, self.batch_size):
                positions = np.arange(start, min(start + self.batch_size, end))
                self.in_flight.append((parts, positions))
                items = [self.teacher.items(unit.view, positions) for unit in group]
                yield [([view for view, _ in same], same[0][1]) for same in zip(*items, strict=True)]
