"""Sample keys: what may be one, its hash, the two files that hold them, and looking them up.

A key is the path of a sample relative to the data root, in UTF-8 with forward slashes. ``samples.txt`` holds the keys
in store order, one per line. ``samples.idx`` holds where each line begins, and the keys' 64-bit hashes in ascending
order with the position of each. A key is found by a binary search over the mapped hashes and compared with its text;
nothing is loaded per sample.
"""
import hashlib
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from .errors import StoreError
from .files import file_sha256, map_file, way_out, write_atomically
from .layout import INDEX_NAME, TEXT_NAME

__all__ = [
    'INDEX_HEADER', 'MAX_SAMPLES', 'KeyTable', 'SampleFiles', 'check_keys', 'index_header', 'key_hash', 'text_sha256',
    'write_sample_files'
]

MAX_KEY_BYTES = 4096
MAX_SAMPLES = 2**32 - 1

INDEX_HEADER = struct.Struct('<8sIIQQ28sI')  # magic, format, salt, samples, text bytes, text hash, crc32: 64 bytes
_MAGIC = b'MTVKEYS\n'
_CHUNK = 65_536
_MAX_SALT = 16


@dataclass(frozen=True)
class SampleFiles:
    """What the manifest records about the two samples files."""
    text_sha256: str
    index_sha256: str
    key_salt: int


def key_hash(key: str | bytes, salt: int = 0) -> int:
    """The 64-bit name of a sample: BLAKE2b with an 8-byte digest, read as a little-endian integer.

    Args:
        key: The sample's key.
        salt: The store's ``key_salt``; 0 unless two of its keys collided. Mixing partners are named without it.
    """
    data = key.encode() if isinstance(key, str) else key
    return int.from_bytes(key_digest(data, salt), 'little')


def key_digest(data: bytes, salt: int) -> bytes:
    """The eight bytes behind :func:`key_hash`."""
    return hashlib.blake2b(data, digest_size=8, salt=salt.to_bytes(4, 'little')).digest()


# ---------------------------------------------------------------- keys that come in
def _blocks(keys: Iterable[str] | str | Path) -> Iterator[bytes]:
    """The text of ``samples.txt``, up to 65,536 keys at a time; refuses a key that is not usable as one."""
    if isinstance(keys, str | Path):
        try:
            with open(keys, 'rb') as file:
                yield from _blocks(line.removesuffix(b'\n') for line in file)
        except OSError as error:
            raise StoreError(f'The list of sample keys {keys} cannot be read ({error.strerror}).') from error
        return
    lines = (_usable(key, position) + b'\n' for position, key in enumerate(keys))
    while block := b''.join(islice(lines, _CHUNK)):
        yield block


def _usable(key: str | bytes, position: int) -> bytes:
    try:
        data = key if isinstance(key, bytes) else key.encode()
        data.decode()
    except (AttributeError, UnicodeError):
        raise StoreError(f'Sample {position} has the key {key!r}, which is not text in UTF-8: a key is the path of '
                         'the sample relative to the data root.') from None
    if not data:
        fault = 'is empty'
    elif b'\n' in data or b'\r' in data or b'\0' in data:
        fault = 'contains a line break or a zero byte'
    elif data.startswith(b'/') or b'..' in data.split(b'/'):
        fault = 'leads out of the data root'
    elif len(data) > MAX_KEY_BYTES:
        fault = f'is longer than {MAX_KEY_BYTES} bytes'
    else:
        return data
    raise StoreError(f'The key {data[:200].decode(errors="replace")!r} of sample {position} {fault}: a key is the '
                     'path of the sample relative to the data root.')


def check_keys(keys: Iterable[str], first: int = 0) -> None:
    """Raises :class:`StoreError` that names the first of ``keys`` that no store takes; ``first`` are before them."""
    for position, key in enumerate(keys, first):
        _usable(key, position)


def text_sha256(keys: Iterable[str] | str | Path) -> tuple[str, int]:
    """The hash that ``samples.txt`` would have for ``keys``, and their number, without writing anything."""
    sha, count = hashlib.sha256(), 0
    for block in _blocks(keys):
        sha.update(block)
        count += block.count(b'\n')
    return sha.hexdigest(), count


# ---------------------------------------------------------------- writing
def write_sample_files(root: Path, keys: Iterable[str] | str | Path, tied: bool = True) -> tuple[SampleFiles, int]:
    """Writes ``samples.txt`` and ``samples.idx``.

    Args:
        root: The store's folder.
        keys: The keys, or a text file with one per line.
        tied: Whether the index names the text that it belongs to, which in older stores it does not.

    Returns:
        What the manifest records about the files, and the number of samples.

    Raises:
        StoreError: There is no key, a key is not usable, or a key appears twice.
    """
    text_path, index_path = root / TEXT_NAME, root / INDEX_NAME
    text_bytes = write_atomically(text_path, _blocks(keys))
    with open(text_path, 'rb') as file:
        offsets = np.cumsum(np.fromiter(chain([0], map(len, file)), '<u8'))
    num_samples = len(offsets) - 1
    if not 0 < num_samples <= MAX_SAMPLES:
        text_path.unlink()
        raise StoreError(f'A store needs between 1 and {MAX_SAMPLES} samples, but the list of keys for {root} has '
                         f'{num_samples}.')
    for salt in range(_MAX_SALT + 1):
        with open(text_path, 'rb') as file:
            hashes = np.fromiter((key_digest(line[:-1], salt) for line in file), 'S8').view('<u8')
        order = np.argsort(hashes, kind='stable')
        hashes = hashes[order]
        twins = np.flatnonzero(hashes[1:] == hashes[:-1])
        if not len(twins):
            break
        _refuse_duplicates(text_path, offsets, order, twins)
    else:
        raise StoreError(f'The keys of the store {root} still collide after {_MAX_SALT} salts; they were chosen to '
                         'collide.')
    text_sha = file_sha256(text_path)
    header = index_header(salt, num_samples, text_bytes, text_sha if tied else '')
    parts = [header, offsets, hashes, order.astype('<u4')]
    write_atomically(index_path, (memoryview(part).cast('B') for part in parts))
    return SampleFiles(text_sha, file_sha256(index_path), salt), num_samples


def index_header(salt: int, num_samples: int, text_bytes: int, text_sha: str = '') -> bytes:
    """The first 64 bytes of ``samples.idx``; without the hash of the text they are those of older stores."""
    head = INDEX_HEADER.pack(_MAGIC, 1, salt, num_samples, text_bytes, bytes.fromhex(text_sha)[:28], 0)[:-4]
    return head + struct.pack('<I', zlib.crc32(head))


def _refuse_duplicates(path: Path, offsets: np.ndarray, order: np.ndarray, twins: np.ndarray) -> None:
    text = map_file(path)
    for twin in twins.tolist():
        first, second = sorted(order[twin:twin + 2].tolist())
        line = text[offsets[first]:offsets[first + 1]]
        if line == text[offsets[second]:offsets[second + 1]]:
            path.unlink()
            raise StoreError(f'The key {line[:-1].decode()!r} appears twice, as samples {first} and {second}: every '
                             'sample needs a key of its own.')


# ---------------------------------------------------------------- looking up
class KeyTable:
    """The samples of a store, memory-mapped.

    Args:
        root: The store's folder.
        num_samples: What the manifest promises.
        samples: What the manifest says of the two files.

    Raises:
        StoreError: A samples file is missing, damaged, or belongs to another store.
    """

    def __init__(self, root: Path, num_samples: int, samples: SampleFiles) -> None:
        self.root = root
        self.salt = samples.key_salt
        try:
            self._text, index = map_file(root / TEXT_NAME), map_file(root / INDEX_NAME)
        except OSError as error:
            mend = way_out(error, 'copy it again from where the store was written')
            raise StoreError(f'{error.filename} cannot be opened ({error.strerror}): {mend}.') from error
        self._num = num_samples
        start = INDEX_HEADER.size
        expected = start + 8 * (num_samples + 1) + 8 * num_samples + 4 * num_samples
        if len(index) != expected:
            raise StoreError(f'{root / INDEX_NAME} has {len(index)} bytes, but {expected} are right for {num_samples} '
                             'samples: copy it again from where the store was written.')
        offsets = np.frombuffer(index, '<u8', num_samples + 1, start)
        hashes = np.frombuffer(index, '<u8', num_samples, start + 8 * (num_samples + 1))
        positions = np.frombuffer(index, '<u4', num_samples, start + 8 * (2 * num_samples + 1))
        size, header = len(self._text), index[:start]
        ours = header == index_header(self.salt, num_samples, size, samples.text_sha256)
        if header == index_header(self.salt, num_samples, size):  # of an older store: nothing in it names the text
            ours = file_sha256(root / INDEX_NAME) == samples.index_sha256
        if not ours or offsets[-1] != size:
            raise StoreError(f'{root / INDEX_NAME} is damaged, or does not belong to this store or to {TEXT_NAME}: '
                             'copy both samples files again from where the store was written.')
        self._index = index
        # Single items of a memoryview are plain numbers, and take half the time of an array's.
        self._offsets, self._hashes, self._positions = map(memoryview, (offsets, hashes, positions))

    def __len__(self) -> int:
        return self._num

    def find(self, keys: Sequence[str]) -> list[int]:
        """The positions of ``keys``, -1 where a key is not in the store. O(n log N)."""
        self._refuse_cut()
        encoded = [key.encode(errors='surrogatepass') for key in keys]
        hashes = [int.from_bytes(key_digest(key, self.salt), 'little') for key in encoded]
        if len(keys) > 1:
            slots = np.searchsorted(self._hashes, np.array(hashes, '<u8')).tolist()
        else:  # NumPy's cost per call would be a third of what reading one record takes
            slots = [bisect_left(self._hashes, hashed) for hashed in hashes]
        found = []
        for key, hashed, slot in zip(encoded, hashes, slots, strict=True):
            position = self._at(slot, hashed)
            if position >= 0 and self._line(position) != key + b'\n':
                self.key(position)
                position = -1  # that one is sound, so it is another key with the same hash
            found.append(position)
        return found

    def key(self, position: int) -> str:
        """The key of the sample at ``position``, checked against its hash."""
        self._refuse_cut()
        if not 0 <= position < self._num:
            raise StoreError(f'The store {self.root} has samples 0 to {self._num - 1}; there is no sample {position}.')
        line = self._line(position)
        hashed = key_hash(line[:-1], self.salt)
        if not line.endswith(b'\n') or self._at(bisect_left(self._hashes, hashed), hashed) != position:
            raise StoreError(f'The samples files of the store {self.root} are damaged at sample {position}: copy them '
                             'again from where the store was written.')
        try:
            return line[:-1].decode()
        except UnicodeDecodeError:
            raise StoreError(f'The store {self.root} names sample {position} {line[:-1]!r}, which is not text in '
                             'UTF-8: no mmtinyvit wrote it; save a new store.') from None

    def _refuse_cut(self) -> None:
        """Refuses to read where a file has no bytes any more, for which the system would end the process."""
        for name, mapped in ((TEXT_NAME, self._text), (INDEX_NAME, self._index)):
            if mapped.size() < len(mapped):
                raise StoreError(f'{self.root / name} was cut off while it was open: copy it again, then start again.')

    def _at(self, slot: int, hashed: int) -> int:
        """The position of the sample whose hash stands at ``slot``, -1 if that is not ``hashed``."""
        known = slot < self._num and self._hashes[slot] == hashed and self._positions[slot] < self._num
        return self._positions[slot] if known else -1

    def _line(self, position: int) -> bytes:
        return self._text[self._offsets[position]:self._offsets[position + 1]]
