"""Checking a store without its teacher: every byte of every file."""
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .codecs import make_codec
from .errors import StoreError
from .layout import INDEX_NAME, MANIFEST_NAME, TEXT_NAME, shard_count, shard_name, shard_path, unit_of, view_name
from .local_folder import LocalFolder
from .manifest import Manifest
from .remote_folder import RemoteFolder, is_url
from .shard import CONTENT_END, Shard, check_reference

__all__ = ['Finding', 'file_fault', 'shard_faults', 'verify_store']

_CHUNK = 2**22


class Finding(NamedTuple):
    """The result for one file, or one problem in it.

    Attributes:
        path: The file; in a store at a URL, the file's URL.
        problem: One sentence, or None if the file is sound.
        done: Files finished so far, this one included.
        total: Files in all.
    """
    path: Path | str
    problem: str | None
    done: int
    total: int


def verify_store(path: str | Path) -> Iterator[Finding]:
    """Reads every file of a store and checks every checksum.

    A damaged store does not stop it, except that nothing can be said about the other files without a sound manifest.
    Views and shards that are absent are no problem: a store may be a partial copy (see ``LogitStore.coverage``). Files
    that are no part of a store are not looked at.

    Args:
        path: The store's folder.

    Yields:
        At least one finding per file, in a fixed order.
    """
    folder = RemoteFolder(path) if is_url(path) else LocalFolder(path)
    try:
        manifest = folder.manifest()
    except StoreError as error:
        yield Finding(folder.where(MANIFEST_NAME), str(error), 1, 1)
        return
    expected = shard_count(manifest.num_samples, manifest.samples_per_shard)
    shards = [(view, shard) for view, there in folder.all_shards().items() for shard in sorted(there)
              if shard < expected]
    done, total = 1, 3 + len(shards)
    yield Finding(folder.where(MANIFEST_NAME), None, done, total)
    for name, sha in ((TEXT_NAME, manifest.samples.text_sha256), (INDEX_NAME, manifest.samples.index_sha256)):
        done += 1
        with folder.borrow(name) as root:
            yield Finding(folder.where(name), _renamed(file_fault(root / name, sha), root, folder), done, total)
    for view, shard in shards:
        done += 1
        name = f'{view_name(view)}/{shard_name(shard)}'
        with folder.borrow(name) as root:
            faults = list(shard_faults(root, view, shard, manifest))
            for fault in faults or list(_reference_faults(folder, root, view, shard, manifest)) or [None]:
                yield Finding(folder.where(name), _renamed(fault, root, folder), done, total)


def _renamed(fault: str | None, root: Path, folder: LocalFolder | RemoteFolder) -> str | None:
    """A sentence about a borrowed file, with the name by which the user knows it."""
    return fault and fault.replace(str(root), str(folder))


def file_fault(path: Path, sha: str) -> str | None:
    """One sentence if the SHA-256 of a file is not ``sha``."""
    digest = hashlib.sha256()
    try:
        with open(path, 'rb') as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        return f'{path} cannot be read ({error.strerror}): copy it again from where the store was written.'
    if digest.hexdigest() != sha:
        return f'{path} is damaged: its SHA-256 is not the one in the manifest; copy it again.'
    return None


def shard_faults(root: Path, view: int, shard: int, manifest: Manifest) -> Iterator[str]:
    """One sentence per damaged part of a shard file of the store, or part of one, in the folder ``root``."""
    path = shard_path(root, view, shard)
    try:
        opened = _load(path, view, shard, manifest)
    except StoreError as error:
        yield str(error)
        return
    except OSError as error:
        yield f'{path} cannot be read ({error.strerror}).'
        return
    yield from opened.faults()


def _load(path: Path, view: int, shard: int, manifest: Manifest) -> Shard:
    codec = make_codec(manifest.codec, manifest.topk, manifest.num_classes)
    unit = unit_of(view, shard, manifest.num_samples, manifest.samples_per_shard)
    return Shard(path, unit, manifest.store_id, codec.record_bytes + 8 * manifest.mixing, codec.variable)


def _reference_faults(folder: LocalFolder | RemoteFolder, root: Path, view: int, shard: int,
                      manifest: Manifest) -> Iterator[str]:
    """A sentence if a sound shard in ``root`` is relative to one that ``folder`` has not, or has otherwise."""
    first = manifest.reference_view
    if first in (None, view):
        return
    path, name = shard_path(root, view, shard), f'{view_name(first)}/{shard_name(shard)}'
    try:
        content = folder.head(name, CONTENT_END)[CONTENT_END - 16:]
        check_reference(_load(path, view, shard, manifest), content, folder.where(name))
    except OSError as error:
        yield (f'{path} is coded relative to {folder.where(name)}, which cannot be read '
               f'({error.strerror or "it is not there"}): copy it too, or save it again.')
    except StoreError as error:
        yield str(error)
