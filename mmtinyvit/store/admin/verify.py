"""Checking a store without its teacher: every byte of every file."""
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..errors import StoreError
from ..files import file_sha256
from ..folders import LocalFolder, RemoteFolder, open_folder
from ..layout import MANIFEST_NAME, Unit
from ..manifest import Manifest
from ..shard import Shard

__all__ = ['Finding', 'check_written', 'file_faults', 'shard_faults', 'verify_store']


class Finding(NamedTuple):
    """The result for one file.

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
        One finding per file, in a fixed order.
    """
    folder = open_folder(path)
    try:
        manifest = folder.manifest()
    except StoreError as error:
        yield Finding(folder.where(MANIFEST_NAME), str(error), 1, 1)
        return
    checks = {name: partial(file_faults, sha=sha) for name, sha in manifest.sample_files.items()}
    for unit in manifest.units(folder.shards(manifest)):
        checks[unit.file] = partial(shard_faults, manifest=manifest, unit=unit, folder=folder)
    total = 1 + len(checks)
    yield Finding(folder.where(MANIFEST_NAME), None, 1, total)
    for done, (name, check) in enumerate(checks.items(), 2):
        with folder.borrow(name) as root:
            for fault in list(check(root / name)) or [None]:
                yield Finding(folder.where(name), fault and fault.replace(str(root), str(folder)), done, total)


def file_faults(path: Path, sha: str) -> Iterator[str]:
    """One sentence if the SHA-256 of a file is not ``sha``."""
    try:
        if file_sha256(path) != sha:
            yield f'{path} is damaged: its SHA-256 is not the one in the manifest; copy it again.'
    except OSError as error:
        yield f'{path} cannot be read ({error.strerror}): copy it again from where the store was written.'


def shard_faults(path: Path, manifest: Manifest, unit: Unit,
                 folder: LocalFolder | RemoteFolder | None = None) -> Iterator[str]:
    """One sentence if a shard file is damaged, or if what it is relative to is not in its ``folder``."""
    try:
        shard = Shard(path, manifest, unit)
        fault = shard.fault()
        if fault:
            yield fault
        elif folder:
            manifest.reference.check_file(path, unit, shard.reference, folder.head, folder.where)
    except StoreError as error:
        yield str(error)
    except OSError as error:
        yield f'{path} cannot be read ({error.strerror}).'


def check_written(out: Path) -> None:
    """Reads a new store back. Raises :class:`StoreError` if a checksum is wrong."""
    for finding in verify_store(out):
        if finding.problem:
            raise StoreError(f'The new store did not survive its writing, so the disk or memory may be failing: '
                             f'{finding.problem}')
