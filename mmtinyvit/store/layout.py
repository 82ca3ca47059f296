"""Where things are in a store: file names, and how samples are cut into shards."""
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import StoreError

__all__ = [
    'INDEX_NAME', 'LOCK_NAME', 'MANIFEST_NAME', 'MAX_VIEW', 'TEXT_NAME', 'TMP_SUFFIX', 'Unit', 'check_view',
    'default_samples_per_shard', 'list_shards', 'list_views', 'shard_count', 'shard_path', 'unit_of', 'view_path'
]

MANIFEST_NAME = 'manifest.json'
TEXT_NAME = 'samples.txt'
INDEX_NAME = 'samples.idx'
LOCK_NAME = '.lock'
TMP_SUFFIX = '.tmp'
MAX_VIEW = 999_999

_VIEW = re.compile(r'view-(\d{4,6})')
_SHARD = re.compile(r'shard-(\d{5,10})\.logits')


@dataclass(frozen=True, order=True)
class Unit:
    """One unit of work: a contiguous range of samples in one view, which becomes one shard file.

    Attributes:
        view: The view's number.
        shard: The shard's number within the view.
        first: Position of its first sample in the store.
        count: Number of its samples.
    """
    view: int
    shard: int
    first: int
    count: int


def default_samples_per_shard(num_samples: int) -> int:
    """A power of two between 64 and 65,536 that cuts a view into at most 256 shards, if that is possible.

    So many are small enough to lose little in a crash and to share out among processes, and few enough for a reader
    to keep a whole view open.
    """
    size = 64
    while size < 65_536 and size * 256 < num_samples:
        size *= 2
    return size


def shard_count(num_samples: int, samples_per_shard: int) -> int:
    """Shards per view."""
    return -(-num_samples // samples_per_shard)


def unit_of(view: int, shard: int, num_samples: int, samples_per_shard: int) -> Unit:
    """The unit of work behind one shard; the last one of a view may be shorter."""
    first = shard * samples_per_shard
    return Unit(view, shard, first, min(samples_per_shard, num_samples - first))


def check_view(view: int) -> int:
    """``view`` as a plain int.

    Raises:
        StoreError: It is not a whole number from 0 to 999,999.
    """
    if isinstance(view, bool) or not hasattr(view, '__index__') or not 0 <= int(view) <= MAX_VIEW:
        raise StoreError(f'A view is a whole number from 0 to {MAX_VIEW}, not {view!r}.')
    return int(view)


def view_path(root: Path, view: int) -> Path:
    """``root/view-0007``."""
    return root / f'view-{view:04d}'


def shard_path(root: Path, view: int, shard: int) -> Path:
    """``root/view-0007/shard-00012.logits``."""
    return view_path(root, view) / f'shard-{shard:05d}.logits'


def list_views(root: Path) -> list[int]:
    """The views that have a folder, in order; one directory listing, no shard is looked at."""
    matches = (_VIEW.fullmatch(path.name) for path in root.iterdir())
    views = {int(match[1]) for match in matches if match}
    return sorted(view for view in views if view_path(root, view).is_dir())


def list_shards(root: Path, view: int) -> set[int]:
    """The shards of ``view`` that are there; temporary and foreign files are not counted."""
    folder = view_path(root, view)
    if not folder.is_dir():
        return set()
    matches = (_SHARD.fullmatch(path.name) for path in folder.iterdir())
    return {int(match[1]) for match in matches if match and shard_path(root, view, int(match[1])).name == match[0]}
