"""Checking a store without its teacher: every byte of every file."""
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import StoreError
from ..files import file_sha256
from ..folders import LocalFolder, RemoteFolder, open_folder
from ..layout import MANIFEST_NAME, Unit, shard_name
from ..manifest import Manifest
from ..shard import Shard

__all__ = ['Finding', 'check_written', 'file_fault', 'shard_faults', 'verify_store']


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
    folder = open_folder(path)
    try:
        manifest = folder.manifest()
    except StoreError as error:
        yield Finding(folder.where(MANIFEST_NAME), str(error), 1, 1)
        return
    units = [manifest.unit(view, shard) for view, there in folder.shards(manifest).items() for shard in sorted(there)]
    done, total = 1, 3 + len(units)
    yield Finding(folder.where(MANIFEST_NAME), None, done, total)
    for name, sha in manifest.sample_files.items():
        done += 1
        with folder.borrow(name) as root:
            yield Finding(folder.where(name), _renamed(file_fault(root / name, sha), root, folder), done, total)
    for unit in units:
        done += 1
        name = shard_name(unit.view, unit.shard)
        with folder.borrow(name) as root:
            for fault in list(shard_faults(root / name, manifest, unit, folder)) or [None]:
                yield Finding(folder.where(name), _renamed(fault, root, folder), done, total)


def _renamed(fault: str | None, root: Path, folder: LocalFolder | RemoteFolder) -> str | None:
    """A sentence about a borrowed file, with the name by which the user knows it."""
    return fault and fault.replace(str(root), str(folder))


def file_fault(path: Path, sha: str) -> str | None:
    """One sentence if the SHA-256 of a file is not ``sha``."""
    try:
        found = file_sha256(path)
    except OSError as error:
        return f'{path} cannot be read ({error.strerror}): copy it again from where the store was written.'
    return None if found == sha else f'{path} is damaged: its SHA-256 is not the one in the manifest; copy it again.'


def shard_faults(path: Path, manifest: Manifest, unit: Unit,
                 folder: LocalFolder | RemoteFolder | None = None) -> Iterator[str]:
    """One sentence per damaged part of a shard file, or, if there is none, about what it lacks in its ``folder``."""
    try:
        shard = Shard(path, manifest, unit)
        sound = True
        for fault in shard.faults():
            sound = False
            yield fault
        if sound and folder:
            yield from manifest.reference.faults(path, unit, shard.reference, folder.head, folder.where)
    except StoreError as error:
        yield str(error)
    except OSError as error:
        yield f'{path} cannot be read ({error.strerror}).'


def check_written(out: Path) -> None:
    """Reads a new store back.

    Raises:
        StoreError: A checksum is wrong.
    """
    for finding in verify_store(out):
        if finding.problem:
            raise StoreError(f'The new store did not survive its writing, so the disk or memory may be failing: '
                             f'{finding.problem}')
