"""The store that a config asks for, whether a saving loop writes it or a training."""
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, get_dist_info

from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitWriter, Manifest
from mmtinyvit.store.layout import MANIFEST_NAME

from .teacher import Teacher

__all__ = ['join_store', 'listed_keys', 'request_manifest']


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


@contextmanager
def listed_keys(teacher: Teacher) -> Iterator[Path]:
    """A text file with the sample keys; 14 million names do not belong in memory."""
    with tempfile.NamedTemporaryFile('w', encoding='utf-8') as keys:
        keys.writelines(f'{key}\n' for key in teacher.keys())
        keys.flush()
        yield Path(keys.name)


def join_store(path: str | Path, request: dict[str, Any], teacher: Teacher, views: Collection[int],
               join: bool = False) -> LogitWriter:
    """A writer in each process of a job: rank 0 creates the store, or refuses; the others follow.

    Args:
        path: The store's folder.
        request: See :func:`request_manifest`.
        teacher: Its dataset names the samples.
        views: That are going to be saved.
        join: Work beside other jobs that say the same; whoever comes first creates the store.

    Raises:
        UserError: A store would begin with views that are coded relative to one which is not among them.
    """
    reference = Manifest.parse(request, 'The requested store').reference
    reference.refuse_without(views, f'The store {path}', lambda view: Path(path, MANIFEST_NAME).exists())
    with listed_keys(teacher) as keys:
        if join:
            return LogitWriter(path, request, keys, join=True)
        creates = get_dist_info()[0] == 0
        if not creates:
            barrier()
        writer = LogitWriter(path, request, keys, exclusive=creates)
        if creates:
            barrier()
        return writer
