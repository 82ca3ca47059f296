"""Who writes what, settled by the kernel: POSIX record locks on one file, no coordinator and no clock.

Byte 0 of ``.lock`` stands for the whole store (one job, or any number that joined each other), byte 1 for creating it,
byte 1024 + n for unit n. A lock ends with its process however that dies, on every host of a shared file system that
supports locks (NFSv4, Lustre, GPFS). The file's content only says who holds byte 0.

A process loses all its locks on a file as soon as it closes *any* descriptor of it. So there is one descriptor per
process and store, shared by all its writers, and nothing else in the library opens the file.
"""
import errno
import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import StoreError
from .files import translated
from .layout import LOCK_NAME

__all__ = ['StoreLock']

_JOB, _CREATION, _UNITS = 0, 1, 1024


class _LockFile:
    """The one descriptor of this process, and what is locked through it."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.pid = os.getpid()
        self.users = 0
        self.held: set[int] = set()
        self.joined = 0  # writers that share byte 0
        self.creation = threading.Lock()


_open_files: dict[Path, _LockFile] = {}
_guard = threading.Lock()


def _renew_guard() -> None:
    """In a forked child: a thread that exists no more may have held the guard."""
    global _guard
    _guard = threading.Lock()


os.register_at_fork(after_in_child=_renew_guard)


class StoreLock:
    """One writer's share in the lock file of a store.

    Args:
        root: The store's folder, which exists.

    Raises:
        StoreError: The folder may not be written to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root.resolve() / LOCK_NAME
        self._mine: set[int] = set()
        self._joined = False
        with _guard, translated(root):
            file = _open_files.get(self._path)
            if file is None or file.pid != os.getpid():  # a forked child shares the descriptor, but none of the locks
                file = _open_files[self._path] = _LockFile(self._path)
            file.users += 1
        self._file: _LockFile | None = file

    def claim_job(self) -> None:
        """Takes the whole store for this job.

        Raises:
            StoreError: Another job, or one that others may join, has it; its process and host are named.
        """
        if not self._try(_JOB):
            holder = os.pread(self._file.fd, 300, 0).decode(errors='replace').strip() or 'another process'
            raise StoreError(f'The store {self._root} is being written by {holder}: wait for it, stop it, or write to '
                             'another store.')
        self._sign()

    def join_job(self) -> None:
        """Shares the whole store with all who join it: meanwhile no job gets it for itself.

        A job that has it for itself is joined as well, and nothing is held then; units are claimed one by one anyway.
        """
        file = self._check_open()
        with _guard, translated(self._root):
            if self._joined or _JOB in file.held or not (file.joined or self._lock(file.fd, fcntl.LOCK_SH, _JOB)):
                return
            file.joined += 1
            self._joined = True
        self._sign()

    def _sign(self) -> None:
        """Writes down who has the store, for the sentence that refuses others."""
        with translated(self._root):
            os.ftruncate(self._file.fd, 0)
            os.pwrite(self._file.fd, f'process {os.getpid()} on host {socket.gethostname()}\n'.encode(), 0)

    def claim_unit(self, number: int) -> bool:
        """Tries to take a unit; False if any other writer has it."""
        return self._try(_UNITS + number)

    def has_unit(self, number: int) -> bool:
        """Whether this writer has the unit."""
        return _UNITS + number in self._mine

    def release_unit(self, number: int) -> None:
        """Gives a unit back; nothing happens if this writer does not have it."""
        if self._file is not None and self.has_unit(number):
            with _guard:
                fcntl.lockf(self._file.fd, fcntl.LOCK_UN, 1, _UNITS + number)
                self._file.held.discard(_UNITS + number)
                self._mine.discard(_UNITS + number)

    @contextmanager
    def creating(self) -> Iterator[None]:
        """Waits for the right to create the store, and has it for the time of the block."""
        with self._file.creation, translated(self._root):
            fcntl.lockf(self._file.fd, fcntl.LOCK_EX, 1, _CREATION)
            try:
                yield
            finally:
                fcntl.lockf(self._file.fd, fcntl.LOCK_UN, 1, _CREATION)

    def close(self) -> None:
        """Gives everything back; may be called twice."""
        file, self._file = self._file, None
        if file is None or file.pid != os.getpid():
            return
        with _guard:
            for byte in self._mine:
                if byte == _JOB:
                    os.ftruncate(file.fd, 0)
                fcntl.lockf(file.fd, fcntl.LOCK_UN, 1, byte)
            file.held -= self._mine
            self._mine.clear()
            file.joined -= self._joined
            if self._joined and not file.joined:
                if self._lock(file.fd, fcntl.LOCK_EX, _JOB):  # the last of all who joined
                    os.ftruncate(file.fd, 0)
                fcntl.lockf(file.fd, fcntl.LOCK_UN, 1, _JOB)
            file.users -= 1
            if not file.users:
                os.close(file.fd)
                _open_files.pop(self._path)

    def _check_open(self) -> _LockFile:
        file = self._file
        if file is None or file.pid != os.getpid():
            raise StoreError(f'This writer of the store {self._root} was closed, or belongs to the process that forked '
                             'this one: open a LogitWriter of its own in each process.')
        return file

    def _try(self, byte: int) -> bool:
        file = self._check_open()
        with _guard, translated(self._root):
            if byte in file.held or (byte == _JOB and file.joined):
                return byte in self._mine
            if not self._lock(file.fd, fcntl.LOCK_EX, byte):
                return False
            file.held.add(byte)
            self._mine.add(byte)
        return True

    def _lock(self, fd: int, kind: int, byte: int) -> bool:
        try:
            fcntl.lockf(fd, kind | fcntl.LOCK_NB, 1, byte)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL):
                raise StoreError(f'The file system of the store {self._root} has no POSIX record locks '
                                 f'({error.strerror}): write the store on one that has.') from error
            raise
        return True
