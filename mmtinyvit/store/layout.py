"""Where things are in a store: file names, and how samples are cut into shards."""
import os
import re
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import StoreError

__all__ = [
    'CANARY_EVERY', 'INDEX_NAME', 'LOCK_NAME', 'MANIFEST_NAME', 'MAX_VIEW', 'TEXT_NAME', 'TMP_SUFFIX', 'Unit',
    'check_view', 'default_samples_per_shard', 'finished_name', 'is_canary', 'is_shared', 'parse_shard',
    'parse_view', 'spell_numbers', 'temporary_name', 'view_name'
]

MANIFEST_NAME = 'manifest.json'
TEXT_NAME = 'samples.txt'
INDEX_NAME = 'samples.idx'
LOCK_NAME = '.lock'
TMP_SUFFIX = '.tmp'
MAX_VIEW = 999_999
CANARY_EVERY = 4096

_VIEW = re.compile(r'view-(\d{4,6})')
_SHARD = re.compile(r'shard-(\d{5,10})\.logits')
_TEMPORARY = re.compile(r'(.+?)(?:\.[\w-]+-\d+)?' + re.escape(TMP_SUFFIX))  # host and process were not always in it
_SHARED = re.compile(r'.+-[0-9a-f]{8}-\d+' + re.escape(TMP_SUFFIX))


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

    @property
    def file(self) -> str:
        """Its file in the store: ``'view-0007/shard-00012.logits'``."""
        return f'{view_name(self.view)}/shard-{self.shard:05d}.logits'


def default_samples_per_shard(num_samples: int) -> int:
    """A power of two between 64 and 65,536 that cuts a view into at most 256 shards, if that is possible.

    So many are small enough to lose little in a crash and to share out among processes, and few enough for a reader
    to keep a whole view open.
    """
    size = 64
    while size < 65_536 and size * 256 < num_samples:
        size *= 2
    return size


def is_canary(position: int, samples_per_shard: int) -> bool:
    """Whether a shard keeps a digest of this sample's pixels: of its first sample, and of every 4096th after it."""
    return position % samples_per_shard % CANARY_EVERY == 0


def check_view(view: int) -> int:
    """``view`` as a plain int. Raises :class:`StoreError` if it is not a whole number from 0 to 999,999."""
    if isinstance(view, bool) or not hasattr(view, '__index__') or not 0 <= int(view) <= MAX_VIEW:
        raise StoreError(f'A view is a whole number from 0 to {MAX_VIEW}, not {view!r}.')
    return int(view)


def view_name(view: int) -> str:
    """``'view-0007'``."""
    return f'view-{view:04d}'


def parse_view(name: str) -> int | None:
    """The view of a folder's name, None if no store names a folder so."""
    match = _VIEW.fullmatch(name)
    return int(match[1]) if match and view_name(int(match[1])) == name else None


def parse_shard(name: str) -> int | None:
    """The shard of a file's name, None if no store names a file so: temporary and foreign files."""
    match = _SHARD.fullmatch(name)
    return int(match[1]) if match and f'shard-{int(match[1]):05d}.logits' == name else None


def temporary_name(name: str, shared: bool = False) -> str:
    """Under which name this process writes a file: ``'manifest.json.HOST-PROCESS.tmp'``.

    With ``shared``, which is for writing without a lock, each call has a name of its own: containers may have the same
    host name and the same numbers of processes.
    """
    host = re.sub(r'[^\w-]', '-', socket.gethostname())[:64] or 'host'
    if shared:
        host = f'{host}-{secrets.token_hex(4)}'
    return f'{name}.{host}-{os.getpid()}{TMP_SUFFIX}'


def finished_name(name: str) -> str | None:
    """What a temporary file of some process was to become, None if ``name`` is not that of a temporary file."""
    match = _TEMPORARY.fullmatch(name)
    return match and match[1]


def is_shared(name: str) -> bool:
    """Whether a temporary file was written without a lock, so that its writer may be alive."""
    return bool(_SHARED.fullmatch(name))


def spell_numbers(numbers: Sequence[int]) -> str:
    """``'0-3, 7'`` for views, shards and other numbers; ``'none'`` if there are none."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ', '.join(f'{first}-{last}' if first < last else str(first) for first, last in runs) or 'none'
