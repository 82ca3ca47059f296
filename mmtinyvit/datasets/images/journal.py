"""What a scan of images has done so far, in a folder beside the index that it will write."""
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...errors import UserError
from .layouts import Source
from .listing import Listing

__all__ = ['ScanJournal']

_END = '\0'  # which no file name holds


class ScanJournal:
    """Listings of folders and archives, and which of their images were rejected, one file each.

    Every file appears whole or not at all, and counts only while its source is the same.

    Args:
        out: The index.
        options: What else the listings depend on, such as the data root.
    """

    def __init__(self, out: Path, options: str) -> None:
        self.folder = out.with_name(f'.{out.name}.scan')
        self.options = options
        self._listed: set[Source] = set()  # by this scan

    def listing(self, source: Source, scan: Callable[[], Listing]) -> Listing:
        """The listing of a source, from ``scan`` if it is not here yet.

        Folders are listed by each scan anew: nothing tells whether what is deep in them has changed.
        """
        path = self._path(source, 'npz')
        try:
            if source.kind == 'folder' and source not in self._listed:
                raise FileNotFoundError
            with np.load(path) as held:
                columns = {name: held[name] for name in held.files if name not in ('names', 'labels', 'others')}
                return Listing(_texts(held['names']), columns, _texts(held['labels']), json.loads(str(held['others'])))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            listing = scan()
        self._write(path, lambda file: np.savez(file, names=_bytes(listing.names), labels=_bytes(listing.labels),
                                                others=json.dumps(listing.others), **listing.columns))
        self._listed.add(source)
        return listing

    def rejected(self, source: Source, block: str, decode: Callable[[], dict[int, str]]) -> dict[int, str]:
        """Row and reason of images of a source that do not decode, from ``decode`` if they are not here yet.

        Args:
            source: The source.
            block: Names the images and what decodes them; another text where one of them has changed.
            decode: Decodes a block of images.
        """
        path = self._path(source, f'{hashlib.sha256(block.encode(errors="surrogateescape")).hexdigest()[:16]}.json')
        try:
            return {int(row): reason for row, reason in json.loads(path.read_bytes()).items()}
        except (OSError, ValueError):
            found = decode()
        self._write(path, lambda file: file.write(json.dumps(found).encode()))
        return found

    def close(self) -> None:
        """Remove the folder, once the index is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, source: Source, suffix: str) -> Path:
        name = f'{self.options}{_END}{source}'
        return self.folder / f'{hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:24]}.{suffix}'

    def _write(self, path: Path, write: Callable) -> None:
        temporary = path.with_suffix(f'.{os.getpid()}.tmp')
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(temporary, 'wb') as file:
                write(file)
            os.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):  # rmdir: there is something in it
                temporary.unlink(missing_ok=True)
                self.folder.rmdir()
            raise UserError(f'{self.folder} cannot be written ({error.strerror}): free the disk, or name another place '
                            'for the index with --out.') from error


def _bytes(texts: list[str]) -> np.ndarray:
    return np.frombuffer(''.join(text + _END for text in texts).encode(errors='surrogateescape'), np.uint8)


def _texts(data: np.ndarray) -> list[str]:
    return data.tobytes().decode(errors='surrogateescape').split(_END)[:-1]
