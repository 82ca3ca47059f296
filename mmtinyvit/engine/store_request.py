"""The store of a saving: what it is to be, and who opens it."""
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, get_dist_info
from mmengine.logging import print_log

from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import LAYOUTS, ClassList, list_classes, require_same_classes, spell_classes
from mmtinyvit.store import LogitWriter, Manifest, PartWriter
from mmtinyvit.store.folders import open_folder
from mmtinyvit.store.layout import MANIFEST_NAME

from .teacher import Teacher

__all__ = ['join_store', 'listed_keys', 'note_class_names', 'open_part', 'request_manifest']

Place = str | Path


def request_manifest(teacher: Teacher, view: int, model_config: dict, num_classes: int | None = None,
                     codec: str = 'compact', samples_per_shard: int | None = None,
                     reference_view: int | None = None, classes: ClassList | None = None) -> dict[str, Any]:
    """What a store of this teacher's records is to be; replays one sample of ``view`` twice to make sure.

    The names of the teacher's ``classes`` go into its fingerprints, if they are given or the model knows them.

    Raises:
        UserError: Images are repeated, the views cannot be replayed, K is more than the teacher's classes, they are not
            ``num_classes`` or not the ``classes``, or the codec does not suit the teacher's record rule.
    """
    rule = teacher.rule
    if rule.keep_mass is not None and codec != 'smallest':
        raise UserError(f'keep_mass={rule.keep_mass} saves no byte with codec={codec!r}, whose records all have the '
                        "same width: set codec='smallest', or leave keep_mass out.")
    if hasattr(teacher.dataset.dataset, 'dataset'):
        name = type(teacher.dataset.dataset).__name__
        raise UserError(f'{name} repeats or leaves out images of the dataset inside it, and a store has each once: '
                        'save the dataset inside, without the wrapper; a training that only reads the store may have '
                        f'{name}.')
    found, topk = teacher.probe(view), rule.topk
    if num_classes not in (None, found):
        raise UserError(f'The teacher has {found} classes, and the config says num_classes={num_classes}.')
    if topk > found:
        raise UserError(f'topk={topk} is more than the {found} classes of the teacher.')
    names = _teacher_classes(teacher, found, classes)
    fingerprints = teacher.fingerprints(model_config) | ({'class_names': '\n'.join(names)} if names else {})
    return dict(topk=topk, num_classes=found, codec=codec, base_seed=teacher.augment.base_seed,
                mixing=teacher.mixing is not None, samples_per_shard=samples_per_shard, reference_view=reference_view,
                fingerprints=fingerprints)


def _teacher_classes(teacher: Teacher, num_classes: int, given: ClassList | None) -> tuple[str, ...] | None:
    """The names of its classes, as they are given or as the model knows them. Raises :class:`UserError`, see above."""
    known = getattr(teacher.model, 'class_names', None)
    if given is None:
        return known if known and len(known) == num_classes else None
    names = list_classes(given)
    if len(names) != num_classes:
        raise UserError(f'The teacher has {num_classes} classes, and classes= of the saving names '
                        f'{spell_classes(names)}: correct it, or leave it out.')
    if known:
        require_same_classes(known, names, 'The teacher is of {ours} by its checkpoint, and of {theirs} by classes= of '
                             'the saving', 'correct it, or leave it out.')
    return names


def note_class_names(request: dict[str, Any], manifest: Manifest, place: Place) -> None:
    """Say so if a store that records are saved into has no names of the teacher's classes, and what to do."""
    if manifest.class_names:
        return
    if request['fingerprints'].get('class_names'):
        print_log(f'The store {place} was begun without names of its {manifest.num_classes:,} classes, and stays '
                  'without: what is saved now is the same, but name them where the store is read (--classes of '
                  '"mmtinyvit store", mmtinyvit.MapLabel in a pipeline), or save into a new store.', 'current')
        return
    layout = next((name for name, layout in LAYOUTS.items() if layout.num_classes == manifest.num_classes), None)
    print_log(f'The store {place} has no names of its {manifest.num_classes:,} classes, so labels are compared with '
              "them by number alone: to keep names, set classes= of the saving to a label layout or a file with a name "
              f"a line, such as classes={layout or 'classes.txt'!r}, before the store is begun.", 'current')


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


def open_part(place: Place, request: dict[str, Any], teacher: Teacher, views: Collection[int]) -> PartWriter:
    """A writer without a lock, which needs no other process; arguments and errors as for :func:`join_store`."""
    reference = Manifest.parse(request, 'The requested store').reference
    reference.refuse_without(views, f'The store {place}', lambda view: MANIFEST_NAME in open_folder(place).sizes())
    with listed_keys(teacher) as keys:
        return PartWriter(place, request, keys)
