"""Checking a store without its teacher: every byte of every file."""
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .codecs import make_codec
from .errors import StoreError
from .layout import INDEX_NAME, MANIFEST_NAME, TEXT_NAME, list_shards, list_views, shard_count, shard_path, unit_of
from .manifest import Manifest, read_manifest
from .shard import Shard

__all__ = ['Finding', 'verify_store']

_CHUNK = 2**22


class Finding(NamedTuple):
    """The result for one file, or one problem in it.

    Attributes:
        path: The file.
        problem: One sentence, or None if the file is sound.
        done: Files finished so far, this one included.
        total: Files in all.
    """
    path: Path
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
    root = Path(path)
    try:
        manifest = read_manifest(root)
    except StoreError as error:
        yield Finding(root / MANIFEST_NAME, str(error), 1, 1)
        return
    expected = shard_count(manifest.num_samples, manifest.samples_per_shard)
    shards = [(view, shard) for view in list_views(root) for shard in sorted(list_shards(root, view))
              if shard < expected]
    done, total = 1, 3 + len(shards)
    yield Finding(root / MANIFEST_NAME, None, done, total)
    for name, sha in ((TEXT_NAME, manifest.samples.text_sha256), (INDEX_NAME, manifest.samples.index_sha256)):
        done += 1
        yield Finding(root / name, _sha_fault(root / name, sha), done, total)
    for view, shard in shards:
        done += 1
        path = shard_path(root, view, shard)
        faults = list(_shard_faults(path, view, shard, manifest))
        for fault in faults or [None]:
            yield Finding(path, fault, done, total)


def _sha_fault(path: Path, sha: str) -> str | None:
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


def _shard_faults(path: Path, view: int, shard: int, manifest: Manifest) -> Iterator[str]:
    codec = make_codec(manifest.codec, manifest.topk, manifest.num_classes)
    unit = unit_of(view, shard, manifest.num_samples, manifest.samples_per_shard)
    try:
        opened = Shard(path, unit, manifest.store_id, codec.record_bytes + 8 * manifest.mixing)
    except StoreError as error:
        yield str(error)
        return
    except OSError as error:
        yield f'{path} cannot be read ({error.strerror}).'
        return
    yield from opened.faults()
