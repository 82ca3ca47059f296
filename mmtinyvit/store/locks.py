"""Who writes what, settled by the kernel: locks on single bytes of one file, no coordinator and no clock.

Byte 0 of ``.lock`` stands for the whole store (one job, or any number that joined each other), byte 1 for creating it,
byte 1024 + n for unit n; byte 2 is for trying whether locks work. A lock ends with its process however that dies, on
every host of a shared file system that supports locks (NFSv4, Lustre, GPFS). The file's content only says who holds
byte 0.

On Linux the locks belong to the open file (``F_OFD_SETLK``). Elsewhere they are POSIX record locks, which a process
loses as soon as it closes *any* descriptor of the file. The two kinds keep each other out. Either way there is one
descriptor per process and store, shared by all its writers, and forked children close it.
"""
import errno
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import StoreError
from .files import open_own, translated
from .layout import LOCK_NAME

try:
    import fcntl
except ImportError:  # Windows, where stores are read
    fcntl = None

__all__ = ['StoreLock', 'wait_for_lock']

_JOB, _CREATION, _TRIAL, _UNITS = 0, 1, 2, 1024
_FLOCK = '@hhqqi0q'  # struct flock of Linux: kind, origin, first byte, number of bytes, process
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


def wait_for_lock(file: IO | int) -> bool:
    """Waits until no other process has a file, and has it until it is closed; False where there are no such locks."""
    try:
        fcntl is None or fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return False
    return fcntl is not None


class _LockFile:
    """The one descriptor of this process, and what is locked through it."""

    def __init__(self, root: Path, path: Path) -> None:
        self.root, self.path = root, path
        self.fd = open_own(path, os.O_RDWR)
        self.pid = os.getpid()
        self.users = 0
        self.held: set[int] = set()
        self.joined = 0  # writers that share byte 0
        self.creation = threading.Lock()
        self._by_file = sys.platform == 'linux'  # unless the kernel turns out not to know it
        try:
            self._try_out()
        except BaseException:
            os.close(self.fd)
            raise

    def lock(self, byte: int, shared: bool = False, wait: bool = False) -> bool:
        """Locks a byte, or turns a lock into one of the other kind; False if another process is in the way."""
        return self._set(self.fd, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, byte, wait)

    def unlock(self, byte: int) -> None:
        self._set(self.fd, fcntl.F_UNLCK, byte)

    def is_in_place(self) -> bool:
        """Whether the file is still the one at its path."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.fd))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
                return False
            raise

    def _set(self, fd: int, kind: int, byte: int, wait: bool = False) -> bool:
        try:
            if self._by_file:
                request = struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0)
                fcntl.fcntl(fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, request)
            else:
                command = {fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_UNLCK: fcntl.LOCK_UN}
                fcntl.lockf(fd, command[kind] | (0 if wait or kind == fcntl.F_UNLCK else fcntl.LOCK_NB), 1, byte)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            if error.errno in _UNSUPPORTED:
                raise StoreError(f'The file system of the store {self.root} has no locks ({error.strerror}): write '
                                 'the store on one that has.') from error
            raise
        return True

    def _try_out(self) -> None:
        """Makes sure that a lock keeps others out; not with record locks, which keep out nobody of this process."""
        if self._by_file:
            try:
                fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _TRIAL, 1, 0))
            except OSError as error:
                self._by_file = error.errno != errno.EINVAL
        if not self._by_file:
            return
        other = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if self.lock(_TRIAL) and self._set(other, fcntl.F_WRLCK, _TRIAL):
                raise StoreError(f'The file system of the store {self.root} grants the same lock twice, so several '
                                 'processes could write the same file: write the store on one whose locks work.')
            self.unlock(_TRIAL)
        finally:
            os.close(other)


_open_files: dict[Path, _LockFile] = {}
_guard = threading.Lock()


def _let_go() -> None:
    """In a forked child: its copies of the descriptors would keep the locks of a parent that has died."""
    global _guard
    _guard = threading.Lock()  # a thread that exists no more may have held the old one
    for file in _open_files.values():
        with suppress(OSError):
            os.close(file.fd)
    _open_files.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_let_go)


class StoreLock:
    """One writer's share in the lock file of a store.

    Args:
        root: The store's folder, which exists.

    Raises:
        StoreError: The folder may not be written to, or its file system or this operating system has no locks.
    """

    def __init__(self, root: Path) -> None:
        self._file: _LockFile | None = None
        if fcntl is None:
            raise StoreError(f'The store {root} cannot be written on this operating system, which lacks the locks of '
                             'POSIX: write it on Linux or macOS; it can be read here.')
        self._root = root
        self._path = root.resolve() / LOCK_NAME
        self._mine: set[int] = set()
        self._joined = False
        with _guard, translated(root):
            file = _open_files.get(self._path)
            if file is None or not file.is_in_place():
                file = _open_files[self._path] = _LockFile(root, self._path)
            file.users += 1
        self._file = file

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
            if self._joined or _JOB in file.held or not (file.joined or file.lock(_JOB, shared=True)):
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
        file = self._file
        if file is not None and file.pid == os.getpid() and self.has_unit(number):
            with _guard, translated(self._root):
                file.held.discard(_UNITS + number)
                self._mine.discard(_UNITS + number)
                file.unlock(_UNITS + number)

    @contextmanager
    def creating(self) -> Iterator[None]:
        """Waits for the right to create the store, and has it for the time of the block."""
        file = self._check_open()
        with file.creation, translated(self._root):
            file.lock(_CREATION, wait=True)
            try:
                yield
            finally:
                file.unlock(_CREATION)

    def refuse_deleted(self) -> None:
        """Raises :class:`StoreError` if the store's folder was deleted or moved away since it was opened."""
        with translated(self._root):
            if not self._check_open().is_in_place():
                raise StoreError(f'The store {self._root} was deleted or moved while it was being written: start again '
                                 'to write a new one.')

    def close(self) -> None:
        """Gives everything back; may be called twice."""
        file, self._file = self._file, None
        if file is None or file.pid != os.getpid():
            return
        with _guard, translated(self._root):
            file.held -= self._mine
            file.joined -= self._joined
            file.users -= 1
            try:
                for byte in self._mine:
                    if byte == _JOB:
                        os.ftruncate(file.fd, 0)
                    file.unlock(byte)
                if self._joined and not file.joined:
                    if file.lock(_JOB):  # the last of all who joined
                        os.ftruncate(file.fd, 0)
                    file.unlock(_JOB)
            finally:
                self._mine.clear()
                if not file.users:
                    if _open_files.get(self._path) is file:
                        del _open_files[self._path]
                    os.close(file.fd)

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
            if not file.lock(byte):
                return False
            file.held.add(byte)
            self._mine.add(byte)
        return True
