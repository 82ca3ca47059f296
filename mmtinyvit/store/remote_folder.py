"""The files of a store at a URL that is reached through fsspec."""
import errno
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .connection import connect, explain, may_pass, short_reason
from .errors import StoreError
from .files import FULL
from .layout import MANIFEST_NAME, parse_shard, parse_view
from .manifest import MAX_BYTES, Manifest, parse_manifest

__all__ = ['PAUSES', 'RemoteFolder']

PAUSES = (1, 2, 4, 8, 16, 32, 64)  # seconds between attempts to put a file

_TORN = {'file', 'local', 'ftp', 'sftp', 'ssh', 'smb', 'hdfs', 'webhdfs'}  # half a file can be seen while it is put


class RemoteFolder:
    """The files of a store at a URL; its methods are those of :class:`~mmtinyvit.store.folders.LocalFolder`.

    Each process opens a connection of its own, at its first request: fsspec's event loop does not survive a fork.
    Requests that fail are repeated by fsspec and the library behind it, as those are configured. Only a shard that is
    put without a lock is tried again here too, because a teacher's work would be lost.

    Args:
        url: The store's URL; fsspec knows the protocols and finds credentials, for S3 in the environment, in
            ``~/.aws``, or from the machine's role.

    Attributes:
        root: The URL.
    """

    def __init__(self, url: str) -> None:
        self.root = url.rstrip('/')

    def __str__(self) -> str:
        return self.root

    def where(self, file: str) -> Path | str:
        return f'{self.root}/{file}'

    # ---------------------------------------------------------------- looking
    def manifest(self) -> Manifest:
        try:
            with self._talking(f'read {self.root}') as (system, path):
                data = system.cat_file(f'{path}/{MANIFEST_NAME}', start=0, end=MAX_BYTES + 1)
        except FileNotFoundError as error:
            raise StoreError(f'There is no store at {self.root} (it has no {MANIFEST_NAME}; {short_reason(error)}): '
                             'check the URL, or put a store there with "mmtinyvit store copy".') from error
        return parse_manifest(data, self.where(MANIFEST_NAME))

    def shards(self, manifest: Manifest) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {}
        for file in self.sizes():
            folder, _, name = file.partition('/')
            view, shard = parse_view(folder), parse_shard(name)
            if view is not None:
                found.setdefault(view, set())
                if shard is not None and shard < manifest.shards_per_view:
                    found[view].add(shard)
        return dict(sorted(found.items()))

    def sizes(self) -> dict[str, int]:
        """Bytes of each file below the URL; one recursive listing."""
        try:
            with self._talking(f'list {self.root}') as (system, path):
                system.invalidate_cache()
                found = system.find(path, detail=True)
        except FileNotFoundError:
            return {}
        # s3fs lists the folder itself where a console made it, and where a store appears at this very moment.
        files = {name[len(path) + 1:] or name: int(info['size'] or 0) for name, info in found.items()
                 if info['type'] != 'directory'}
        return {file: size for file, size in files.items() if not file.endswith('/')}

    def head(self, file: str, size: int) -> bytes:
        with self._talking(f'read {self.where(file)}') as (system, path):
            return system.cat_file(f'{path}/{file}', start=0, end=size)

    # ---------------------------------------------------------------- moving files
    def fetch(self, file: str, target: Path) -> None:
        """Downloads a file to ``target``, which exists, in one request.

        Raises:
            FileNotFoundError: There is none.
            OSError: This machine's disk is full.
            StoreError: The other side failed; says how.
        """
        with self._talking(f'read {self.where(file)}') as (system, path):
            system.get_file(f'{path}/{file}', str(target))

    @contextmanager
    def borrow(self, file: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix='mmtinyvit-') as folder:
            target = Path(folder, file)
            try:
                target.parent.mkdir(exist_ok=True)
                target.touch()
                self.fetch(file, target)
            except FileNotFoundError:
                target.unlink()
            except OSError as error:
                raise StoreError(f'{folder} cannot take {self.where(file)} ({error.strerror or error}): free some '
                                 'room, or name another folder with TMPDIR.') from error
            yield Path(folder)

    @contextmanager
    def writing(self) -> Iterator[None]:
        yield  # there are no locks at a URL, and what is put there is the same whoever puts it

    def put(self, file: str, source: Path) -> None:
        try:
            with self._talking(f'write {self.where(file)}') as (system, path):
                system.put_file(str(source), f'{path}/{file}')
        except FileNotFoundError as error:
            raise StoreError(f'There is no place for {self.where(file)} ({short_reason(error)}): make the bucket, or '
                             'check the URL.') from error

    # ---------------------------------------------------------------- without a lock
    def refuse_torn_writes(self) -> None:
        with self._talking(f'write {self.root}') as (system, _):
            protocols = {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
        if protocols & _TORN:
            raise StoreError(f'{self.root} cannot be written to, because others could see half a file there: name a '
                             'folder without a protocol, or the URL of an object store.')

    def put_bytes(self, file: str, pieces: Sequence[bytes]) -> None:
        data = b''.join(pieces)
        self._put_patiently(file, lambda system, path: system.pipe_file(path, data))

    def put_new(self, file: str, data: bytes) -> None:
        def put(system: Any, path: str) -> None:
            try:
                system.pipe_file(path, data, mode='create')
            except Exception as error:
                system.invalidate_cache()
                if system.exists(path):  # somebody was faster, whatever the library calls that
                    return
                if not (isinstance(error, TypeError | ValueError | NotImplementedError)
                        or getattr(error, 'errno', None) == errno.ENOSYS):
                    raise
                system.pipe_file(path, data)  # a file system without this condition

        self._put_patiently(file, put)

    def _put_patiently(self, file: str, put: Callable[[Any, str], None]) -> None:
        """Puts again what failed, after longer and longer pauses: an outage must not end hours of a teacher's work.

        Raises:
            StoreError: It failed for a reason that does not pass, or too often.
        """
        for pause in (*PAUSES, None):
            try:
                with self._talking(f'write {self.where(file)}') as (system, path):
                    return put(system, f'{path}/{file}')
            except FileNotFoundError as error:
                raise StoreError(f'There is no place for {self.where(file)} ({short_reason(error)}): make the bucket, '
                                 'or check the URL.') from error
            except OSError as error:  # no room, at the other side
                raise StoreError(explain(error, f'write {self.where(file)}')) from error
            except StoreError as error:
                if pause is None or error.__cause__ is None or not may_pass(error.__cause__):
                    raise
            time.sleep(pause)

    # ---------------------------------------------------------------- talking to fsspec
    @contextmanager
    def _talking(self, verb: str) -> Iterator[tuple[Any, str]]:
        """The file system, and the store's path in it; what goes wrong on the way becomes one sentence.

        What is not there (``FileNotFoundError``) and a full disk here (``OSError``) are the caller's to explain.
        """
        try:
            yield connect(self.root)
        except (FileNotFoundError, StoreError):
            raise
        except Exception as error:  # each protocol's library has its own exceptions
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            raise StoreError(explain(error, verb)) from error
