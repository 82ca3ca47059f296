"""How a data set lies on a disk or in a bucket: its folders and archives, and what names and classes they give.

==================  ========================================  ===============================  ===========
layout              what it is                                key of an image                  class
==================  ========================================  ===============================  ===========
``folders``         class folders, or folders of any kind     path below the data root         first folder
``class-archives``  a zip or tar file per class, the tars     ``class/file``, the same as in   archive
                    also inside one tar                       class folders
``archive``         one zip or tar file with folders          path inside it                   first folder
``shards``          WebDataset's or img2dataset's tar files   ``shard/path inside it``         ``.cls``
==================  ========================================  ===============================  ===========
"""
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from ...errors import UserError, other_spelling
from .data_root import DataRoot, Entry, part_of
from .listing import Listing, first_names, inner_archives, is_image, list_folder, list_tar, list_zip

__all__ = ['LAYOUTS', 'Source', 'find_sources', 'list_source', 'peek', 'refuse_compressed', 'sample_keys']

LAYOUTS = ('folders', 'class-archives', 'archive', 'shards')

_ARCHIVE = re.compile(r'\.(zip|tar)$', re.IGNORECASE)
_COMPRESSED = re.compile(r'\.(tgz|tbz2?|txz|tar\.(gz|bz2|xz|zst))$', re.IGNORECASE)
_SHARD = re.compile(r'[-_.]\d{3,}$')
_DIGITS = re.compile(r'\d{4,}$')
_SIDECARS = ('.cls', '.json', '.txt')
_BROKEN = re.compile('[\r\n\0\udc80-\udcff]')
_LONGEST_KEY = 4096  # bytes; see mmtinyvit.store.keys
_OPENED = 64  # tar files that are opened to see whether they hold others; a bucket may have 100,000 shards


@dataclass(frozen=True)
class Source:
    """A folder or an archive: what is listed in one go.

    Attributes:
        name: Path below the data root; ``''`` for what lies in the root itself.
        kind: ``'folder'``, ``'zip'`` or ``'tar'``.
        size: Bytes of the whole file ``name``.
        stamp: Changes when the source changes.
        inner: Path of the archive inside the tar file ``name``, if it is one of those.
        start: First byte of the inner archive.
        length: Bytes of the inner archive.
    """
    name: str
    kind: str
    size: int
    stamp: str
    inner: str = ''
    start: int = 0
    length: int = 0

    @property
    def stem(self) -> str:
        """The class of a folder or a class archive, or the shard's name: the path without the suffix, as in a key."""
        if self.kind == 'folder':
            return _plain(self.name)
        return _plain(_ARCHIVE.sub('', posixpath.basename(self.inner) or self.name))

    def where(self, root: DataRoot) -> str:
        """What an error calls it."""
        return f'{self.inner} in {root}/{self.name}' if self.inner else f'{root}/{self.name}'


def find_sources(root: DataRoot, layout: str | None, pattern: str | None = None,
                 only: str | None = None) -> tuple[str, list[Source]]:
    """The folders and archives of a data root.

    Args:
        root: The data root.
        layout: One of :data:`LAYOUTS`; None finds out.
        pattern: Shell pattern for the archives, at any depth below the root; by default those in the root itself.
        only: The one archive that is meant.

    Returns:
        The layout, and the sources in the order of their names.

    Raises:
        UserError: There are none, several layouts are mixed, or archives are compressed.
    """
    try:
        entries = [root.entry(only)] if only else root.glob(pattern) if pattern else root.entries()
    except OSError as error:
        raise UserError(f'{root}{f"/{only}" if only else ""} cannot be read ({error.strerror or error}): check the '
                        'path.') from error
    archives = [entry for entry in entries if not entry.is_dir and _ARCHIVE.search(entry.name)]
    folders = [entry for entry in entries if entry.is_dir]
    loose = any(not entry.is_dir and is_image(entry.name) for entry in entries)
    names = [entry.name for entry in entries if not entry.is_dir]
    for name in names if layout != 'folders' else ():
        refuse_compressed(f'{root}/{name}')
    if pattern and not archives:
        raise UserError(f'No archive (.zip, .tar) below {root} matches {pattern}: correct --match.')
    if layout is None and archives and folders and not pattern:
        raise UserError(f'{root} holds {len(folders)} folders and {len(archives)} archives: say which are meant with '
                        f'--layout {"|".join(LAYOUTS)}.')
    if layout == 'folders' or (layout is None and not archives):
        if not folders and not loose:
            if any(name.endswith('.parquet') for name in names):
                raise UserError(f'{root} holds parquet files: convert them once to shards with '
                                '"mmtinyvit shards", and list those.')
            kinds = 'folder or image' if layout else 'folder, archive (.zip, .tar) or image'
            raise UserError(f'{root} holds no {kinds}: name the folder or URL that does, or another --layout.')
        root_files = [Source('', 'folder', 0, '')] * loose
        found = root_files + [Source(entry.name, 'folder', 0, entry.stamp) for entry in folders]
        _refuse_twins(root, found)
        return 'folders', found
    if not archives:
        raise UserError(f'{root} holds no archive (.zip, .tar): name the folder or URL that does, or leave --layout '
                        'out.')
    sources = _open_out(root, archives)
    layout = layout or _guess(root, sources, names)
    if layout == 'archive' and len(sources) > 1:
        raise UserError(f'{root} holds {len(sources)} archives, and --layout archive is for one: name that in place of '
                        'the folder, or choose another layout.')
    _refuse_twins(root, sources)
    return layout, sorted(sources, key=lambda source: source.stem)


def _open_out(root: DataRoot, archives: Sequence[Entry]) -> list[Source]:
    """The archives, or those that tar files of tar files hold."""
    inner = {}
    for entry in archives if len(archives) <= _OPENED else archives[:1]:
        if entry.name.lower().endswith('.tar'):
            with root.open(entry.name) as file:
                inner[entry] = inner_archives(file, f'{root}/{entry.name}')
    if not any(inner.values()):
        return [Source(entry.name, entry.name[-3:].lower(), entry.size, entry.stamp) for entry in archives]
    for entry in archives:
        if not inner.get(entry):
            raise UserError(f'{root} holds tar files of tar files, and {entry.name}, which is none: name one of them '
                            'in place of the folder.')
    return [Source(entry.name, 'tar', entry.size, entry.stamp, *place) for entry in archives for place in inner[entry]]


def _refuse_twins(root: DataRoot, sources: Sequence[Source]) -> None:
    """Raises :class:`UserError` if images of two sources could have the same key."""
    stems = Counter(source.stem for source in sources)
    above = {str(parent) for stem in stems if '/' in stem for parent in PurePosixPath(stem).parents}
    if twice := [stem for stem, count in stems.items() if count > 1 or stem in above]:
        raise UserError(f'{root} holds two archives or folders for {twice[0]}: keep one of them, or choose with '
                        '--match.')
    known: set[str] = set()
    for stem in stems:
        if spelt := other_spelling(stem, known.__contains__):
            raise UserError(f'{root} holds two folders or archives that look alike, {stem}{spelt}.')
        known.add(stem)


def _guess(root: DataRoot, sources: Sequence[Source], names: Sequence[str]) -> str:
    """The layout of archives, from their names and from what the first of them holds."""
    if sources[0].inner:
        return 'class-archives'
    if len(sources) > 1 and any(f'{source.stem}_map.txt' in names for source in sources):
        raise UserError(f'{root} holds several archives with maps beside them: name one of them, such as '
                        f'{root}/{sources[0].name}, in place of the folder.')
    first = peek(root, sources[0])
    in_folders = any('/' in posixpath.normpath(name) for name in first if is_image(name))
    sidecars = any(name.lower().endswith(_SIDECARS) for name in first)
    stems = [posixpath.basename(source.stem) for source in sources]
    if all(source.kind == 'tar' for source in sources) and not (len(sources) == 1 and in_folders) and (
            all(map(_SHARD.search, stems)) or (sidecars and all(map(_DIGITS.search, stems)))):
        return 'shards'
    if len(sources) == 1 and (in_folders or f'{sources[0].stem}_map.txt' in names):
        return 'archive'
    return 'class-archives'


def peek(root: DataRoot, source: Source) -> list[str]:
    """Names of the first files in an archive."""
    with root.open(source.name) as file:
        return first_names(file, source.kind, source.where(root))


def refuse_compressed(path: str) -> None:
    """Raises :class:`UserError` if ``path`` is named as a compressed tar file."""
    if _COMPRESSED.search(path):
        raise UserError(f'{path} is a compressed tar file, in which no image can be read by itself: unpack it once, '
                        f'`gunzip {path.rpartition("/")[2]}` for .tar.gz, into a .tar file.')


def list_source(root: DataRoot, source: Source, label: str | None = None) -> Listing:
    """The images of a source, with byte positions in the file ``source.name``.

    Args:
        root: The data root.
        source: One of :func:`find_sources`.
        label: See :func:`.listing.list_tar`.

    Raises:
        UserError: It cannot be read.
    """
    where = source.where(root)
    try:
        if source.kind == 'folder':
            return list_folder(root, source.name)
        with root.open(source.name) as file:
            if source.kind == 'zip':
                return list_zip(file, where)
            if not source.inner:
                return list_tar(file, where, label)
            listing = list_tar(part_of(file, source.start, source.length), where, label)
        if listing.columns:
            listing.columns['offsets'] += np.uint64(source.start)
        return listing
    except OSError as error:
        raise UserError(f'{where} cannot be read ({error.strerror or error}): bring it back.') from error


def sample_keys(layout: str, source: Source, names: Sequence[str]) -> list[str]:
    """The key of each image: what names it in every store, in whatever layout the same image lies.

    Line breaks, and bytes that are no UTF-8, stand in a key as ``%0A`` and the like.

    Args:
        layout: One of :data:`LAYOUTS`.
        source: Where the images are.
        names: As in :class:`.listing.Listing`.

    Raises:
        UserError: A name leads out of the archive, or two images would have the same key.
    """
    paths = [posixpath.normpath(name) for name in names]
    for path in paths:
        if path.startswith(('/', '../')):
            raise UserError(f'{source.name} names an image outside of itself ({path!r}): write the archive again.')
    if layout == 'class-archives':
        # archives differ in the folder that they put their members under; the class is the archive's own name
        paths = [f'{source.stem}/{posixpath.basename(path)}' for path in paths]
    elif layout == 'shards':
        paths = [f'{source.stem}/{path}' for path in paths]
    elif layout == 'archive':
        paths = _below_common_folder(paths)
    keys = [_plain(path) for path in paths]
    if longest := [key for key in keys if len(key.encode()) > _LONGEST_KEY]:
        raise UserError(f'{source.name} holds an image whose name has more than {_LONGEST_KEY} bytes, which no store '
                        f'takes: rename {longest[0][:80]}...')
    if len(set(keys)) < len(keys):
        twice = Counter(keys).most_common(1)[0][0]
        raise UserError(f'{source.inner or source.name} holds two images that would be called {twice}: keep one of '
                        'them.')
    return keys


def _below_common_folder(paths: list[str]) -> list[str]:
    """Without the folders that all paths begin with, as long as a folder stays: ``train/n01/a.jpg`` is in class n01."""
    while paths:
        first = paths[0].partition('/')[0] + '/'
        if not all(path.startswith(first) and path.count('/') > 1 for path in paths):
            break
        paths = [path[len(first):] for path in paths]
    return paths


def _plain(path: str) -> str:
    """A path as a line of UTF-8; undecodable bytes of a file name are lone surrogates in Python."""
    return _BROKEN.sub(lambda match: f'%{ord(match[0]) & 0xFF:02X}', path)
