"""A store, or some of its views, copied from a folder or URL to another."""
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..errors import StoreError
from ..files import file_sha256, reading, refuse_foreign
from ..folders import LocalFolder, RemoteFolder, is_url, open_folder
from ..layout import MANIFEST_NAME, Unit, view_name
from ..manifest import Manifest
from ..shard import HEAD_BYTES
from .verify import file_faults, shard_faults

__all__ = ['Copy', 'copy_store']

Folder = LocalFolder | RemoteFolder
Watch = Callable[[Sequence[Future]], Iterable[Future]]

_AT_ONCE = 8  # small files spend their time waiting for answers


class Copy(NamedTuple):
    """What was copied.

    Attributes:
        views: The views that were asked for.
        copied: Shards copied in this call.
        present: Shards that were there already.
        num_bytes: Bytes of the shards copied.
        incomplete_views: Views of which the source lacks shards, so that the copy does.
    """
    views: list[int]
    copied: int
    present: int
    num_bytes: int
    incomplete_views: list[int]


def copy_store(source: str | Path, destination: str | Path, views: Sequence[int] | None = None,
               watch: Watch = iter) -> Copy:
    """Copies a store to another folder or URL; what is there already stays.

    Every file is checked against its checksums before it is sent, and read back and compared afterwards. The manifest
    comes last: until everything else is there, the destination is no store. An interrupted call is simply repeated.
    Another call may add more views later.

    Args:
        source: A store's folder or URL; it is only read.
        destination: A folder or URL. If there is a store already, it must be the same one.
        views: The views to copy; all by default.
        watch: Wraps the copies of single shards, for a progress bar.

    Raises:
        StoreError: The source is damaged or lacks a view, the destination is another store or something else, or one of
            them cannot be reached.
    """
    origin, target = open_folder(source), open_folder(destination)
    manifest = origin.manifest()
    have = origin.shards(manifest)
    views = sorted(have) if views is None else sorted(set(views))
    for view in views:
        if not have.get(view):
            raise StoreError(f'The store {origin} has no view {view} to copy: choose others with --views.')
    if isinstance(origin, LocalFolder) and isinstance(target, LocalFolder):
        place = target.root.resolve()
        if origin.root.resolve() in (place, *place.parents):
            raise StoreError(f'The copy {target} would lie in {origin}, which is read: choose another folder.')
    elif origin.root == target.root:
        raise StoreError(f'{origin} cannot be copied onto itself: choose another place.')
    existing = target.sizes()
    published = MANIFEST_NAME in existing
    if published:
        lines = manifest.differences(target.manifest())
        if lines:
            raise StoreError(f'There is another store at {target} (to be copied != there): {"; ".join(lines)}. Copy to '
                             'another place.')
    else:
        refuse_foreign(target, existing, shards=True)
    manifest.reference.refuse_without(views, f'The copy {target}',
                                      lambda view: any(file.startswith(view_name(view)) for file in existing))
    sizes, jobs = origin.sizes(), []
    with target.writing(), ThreadPoolExecutor(_AT_ONCE if is_url(source) or is_url(destination) else 1) as pool:
        if not published:
            for name, sha in manifest.sample_files.items():
                _copy_file(origin, target, name, partial(file_faults, sha=sha))
        for unit in manifest.units({view: have[view] for view in views}):
            same_size = unit.file in existing and existing[unit.file] == sizes.get(unit.file)
            jobs.append(pool.submit(_copy_shard, origin, target, manifest, unit, same_size))
        try:
            copied = [sizes.get(job.result(), 0) for job in watch(jobs) if job.result()]
            if not published:
                _copy_file(origin, target, MANIFEST_NAME, lambda path: ())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return Copy(views, len(copied), len(jobs) - len(copied), sum(copied),
                [view for view in views if len(have[view]) < manifest.shards_per_view])


def _copy_shard(origin: Folder, target: Folder, manifest: Manifest, unit: Unit, same_size: bool) -> str:
    """Copies one shard, unless one with the same size and header is there; the name of what was copied, or ''."""
    with reading(origin):
        if same_size and target.head(unit.file, HEAD_BYTES) == origin.head(unit.file, HEAD_BYTES):
            return ''
    _copy_file(origin, target, unit.file, partial(shard_faults, manifest=manifest, unit=unit))
    return unit.file


def _copy_file(origin: Folder, target: Folder, name: str, faults: Callable[[Path], Iterable[str]]) -> None:
    """Copies one file, checked before and compared afterwards; ``faults`` says what is wrong with it."""
    with origin.borrow(name) as root:
        for fault in faults(root / name):
            raise StoreError(fault.replace(str(root), str(origin)))
        with reading(origin):
            sent = file_sha256(root / name)
        target.put(name, root / name)
    with target.borrow(name) as root:
        if any(file_faults(root / name, sent)):
            raise StoreError(f'{target.where(name)} is not what was written there: the disk, the memory or the network '
                             'may be failing; delete it and copy again.')
