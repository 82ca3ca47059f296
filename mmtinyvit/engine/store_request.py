"""The store that a config asks for, whether a saving loop writes it or a training."""
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import barrier

from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitWriter, Manifest
from mmtinyvit.store.keys import SampleFiles, text_sha256
from mmtinyvit.store.layout import MANIFEST_NAME

from .teacher import Teacher

__all__ = ['check_reference_view', 'join_store', 'listed_keys', 'planned_manifest', 'request_manifest']


def request_manifest(teacher: Teacher, view: int, model_config: dict, num_classes: int | None = None,
                     codec: str = 'compact', samples_per_shard: int | None = None,
                     reference_view: int | None = None) -> dict[str, Any]:
    """What a store of this teacher's records is to be; replays one sample of ``view`` twice to make sure.

    Raises:
        UserError: The views cannot be replayed, K is more than the teacher's classes, they are not ``num_classes``, or
            the codec does not suit the teacher's record rule.
    """
    teacher.rule.check_codec(codec)
    classes, topk = teacher.probe(view), teacher.rule.topk
    if num_classes not in (None, classes):
        raise UserError(f'The teacher has {classes} classes, and the config says num_classes={num_classes}.')
    if topk > classes:
        raise UserError(f'topk={topk} is more than the {classes} classes of the teacher.')
    return dict(topk=topk, num_classes=classes, codec=codec, base_seed=teacher.augment.base_seed,
                mixing=teacher.mixing is not None, samples_per_shard=samples_per_shard, reference_view=reference_view,
                fingerprints=teacher.fingerprints(model_config))


def check_reference_view(path: str, request: dict[str, Any], views: Collection[int]) -> None:
    """Refuses to begin a store with views that are coded relative to one which is not among them.

    Raises:
        UserError: Names that view.
    """
    reference = Manifest.parse(request, 'The requested store').reference
    reference.refuse_without(views, f'The store {path}', lambda view: Path(path, MANIFEST_NAME).exists())


@contextmanager
def listed_keys(teacher: Teacher) -> Iterator[Path]:
    """A text file with the sample keys; 14 million names do not belong in memory."""
    with tempfile.NamedTemporaryFile('w', encoding='utf-8') as keys:
        keys.writelines(f'{key}\n' for key in teacher.keys())
        keys.flush()
        yield Path(keys.name)


def join_store(path: str, request: dict[str, Any], keys: Path, rank: int, join: bool = False) -> LogitWriter:
    """A writer in each process of a job: rank 0 creates the store, or refuses; the others follow.

    Args:
        path: The store's folder.
        request: See :func:`request_manifest`.
        keys: See :func:`listed_keys`.
        rank: This process.
        join: Work beside other jobs that say the same; whoever comes first creates the store.
    """
    if join:
        return LogitWriter(path, request, keys, join=True)
    if rank != 0:
        barrier()
    writer = LogitWriter(path, request, keys, exclusive=rank == 0)
    if rank == 0:
        barrier()
    return writer


def planned_manifest(request: dict[str, Any], keys: Path) -> Manifest:
    """What :func:`join_store` would create, complete but for the hash of the samples' index; writes nothing."""
    text_sha, num_samples = text_sha256(keys)
    manifest = Manifest.parse(request, 'The requested store')
    return manifest.settle(num_samples, SampleFiles(text_sha, '0' * 64, 0))
