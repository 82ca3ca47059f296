"""Bringing a store into being, or making sure that the one that is there is the one that is meant."""
from collections.abc import Sequence
from pathlib import Path

from .errors import StoreError
from .files import translated
from .key_table import KeyTable
from .keys import text_sha256, write_sample_files
from .layout import INDEX_NAME, LOCK_NAME, MANIFEST_NAME, TEXT_NAME, TMP_SUFFIX
from .manifest import Manifest, read_manifest, write_manifest

__all__ = ['agree', 'create', 'refuse_foreign']


def refuse_foreign(root: Path) -> None:
    """Refuses to turn somebody's folder into a store."""
    names = {MANIFEST_NAME, TEXT_NAME, INDEX_NAME}
    names |= {name + TMP_SUFFIX for name in names} | {LOCK_NAME}
    with translated(root):
        present = {path.name for path in root.iterdir()}
    if MANIFEST_NAME not in present and present - names:
        raise StoreError(f'The folder {root} is not a store and not empty (it has {sorted(present - names)[0]}): '
                         'choose a new folder.')


def create(root: Path, asked: Manifest, keys: Sequence[str] | str | Path) -> Manifest:
    """Writes the samples files and, last, the manifest: a store exists from then on."""
    samples, num_samples = write_sample_files(root, keys)
    if asked.num_samples not in (None, num_samples):
        raise StoreError(f'The requested store has num_samples={asked.num_samples}, but {num_samples} keys were given.')
    manifest = asked.settle(num_samples, samples)
    write_manifest(root, manifest)
    return manifest


def agree(root: Path, asked: Manifest, keys: Sequence[str] | str | Path) -> Manifest:
    """The manifest of the store at ``root``, if that is the one that is asked for."""
    found = read_manifest(root)
    lines = found.differences(asked)
    text_sha, num_samples = text_sha256(keys)
    if num_samples != found.num_samples:
        lines.append(f'number of sample keys: {found.num_samples} != {num_samples}')
    elif text_sha != found.samples.text_sha256:
        lines.append(f'sample keys: {_first_difference(root, found, keys)}')
    if lines:
        raise StoreError(f'The store {root} is another one than asked for (stored != asked): {"; ".join(lines)}. Write '
                         'to a new folder, or restore the settings that it was made with.')
    return found


def _first_difference(root: Path, found: Manifest, keys: Sequence[str] | str | Path) -> str:
    table = KeyTable(root, found.num_samples, found.samples.key_salt)
    asked = Path(keys).read_text('utf-8').split('\n') if isinstance(keys, str | Path) else keys
    for position, key in enumerate(asked):
        if position < len(table) and table.key(position) != key:
            return f'sample {position} is {table.key(position)!r} != {key!r}'
    return f'SHA-256 {found.samples.text_sha256[:16]} != that of the same keys, so {TEXT_NAME} is damaged'
