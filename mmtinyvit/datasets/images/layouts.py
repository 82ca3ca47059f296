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

import numpy as np

from ...errors import UserError
from .data_root import DataRoot, Entry
from .listing import Listing, inner_archives, is_image, list_folder, list_tar, list_zip, open_inner

__all__ = ['LAYOUTS', 'Source', 'find_sources', 'list_source', 'refuse_compressed', 'sample_keys']

LAYOUTS = ('folders', 'class-archives', 'archive', 'shards')

_ARCHIVE = re.compile(r'\.(zip|tar)$')
_COMPRESSED = re.compile(r'\.(tgz|tbz2?|txz|tar\.(gz|bz2|xz|zst))$')
_SHARD = re.compile(r'(^|[-_.])\d{4,}$')
_BROKEN = re.compile('[\r\n\0\udc80-\udcff]')


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
        """The class of a class archive, or the shard's name: the path without the suffix."""
        return _ARCHIVE.sub('', posixpath.basename(self.inner) or self.name)

    def where(self, root: DataRoot) -> str:
        """What an error calls it."""
        return f'{self.inner} in {root}/{self.name}' if self.inner else f'{root}/{self.name}'


def find_sources(root: DataRoot, layout: str | None, pattern: str | None = None) -> tuple[str, list[Source]]:
    """The folders and archives of a data root.

    Args:
        root: The data root.
        layout: One of :data:`LAYOUTS`; None finds out.
        pattern: Shell pattern for the archives, at any depth below the root; by default those in the root itself.

    Returns:
        The layout, and the sources in the order of their names.

    Raises:
        UserError: There are none, several layouts are mixed, or archives are compressed.
    """
    entries = root.glob(pattern) if pattern else root.entries()
    archives = [entry for entry in entries if not entry.is_dir and _ARCHIVE.search(entry.name)]
    folders = [entry for entry in entries if entry.is_dir]
    loose = any(not entry.is_dir and is_image(entry.name) for entry in entries)
    names = [entry.name for entry in entries if not entry.is_dir]
    if not archives and layout != 'folders':
        for name in names:
            refuse_compressed(f'{root}/{name}')
        if not loose and any(name.endswith('.parquet') for name in names):
            raise UserError(f'{root} holds parquet files: convert them once to shards with '
                            'tools/dataset_converters/parquet_to_shards.py, and list those.')
    if pattern and not archives:
        raise UserError(f'No archive (.zip, .tar) below {root} matches {pattern}: correct --match.')
    if layout is None and archives and folders and not pattern:
        raise UserError(f'{root} holds {len(folders)} folders and {len(archives)} archives: say which are meant with '
                        f'--layout {"|".join(LAYOUTS)}.')
    if layout == 'folders' or (layout is None and not archives):
        if not folders and not loose:
            kinds = 'folder or image' if layout else 'folder, archive (.zip, .tar) or image'
            raise UserError(f'{root} holds no {kinds}: name the folder or URL that does, or another --layout.')
        root_files = [Source('', 'folder', 0, '')] * loose
        return 'folders', root_files + [Source(entry.name, 'folder', 0, entry.stamp) for entry in folders]
    if not archives:
        raise UserError(f'{root} holds no archive (.zip, .tar): name the folder or URL that does, or leave --layout '
                        'out.')
    if _inner(root, archives[0]):  # the first tells, because 100,000 shards in a bucket are not opened twice
        sources = [Source(entry.name, 'tar', entry.size, entry.stamp, *place) for entry in archives
                   for place in _inner(root, entry)]
    else:
        sources = [Source(entry.name, entry.name[-3:], entry.size, entry.stamp) for entry in archives]
    layout = layout or _guess(sources)
    if layout == 'archive' and len(sources) > 1:
        raise UserError(f'{root} holds {len(sources)} archives, and --layout archive is for one: choose one with '
                        '--match, or another layout.')
    stems = Counter(source.stem for source in sources)
    if twice := [stem for stem, count in stems.items() if count > 1]:
        raise UserError(f'{root} holds two archives for {twice[0]}: keep one of them, or choose with --match.')
    return layout, sorted(sources, key=lambda source: source.stem)


def refuse_compressed(path: str) -> None:
    """Raises :class:`UserError` if ``path`` is named as a compressed tar file."""
    if _COMPRESSED.search(path):
        raise UserError(f'{path} is a compressed tar file, in which no image can be read by itself: unpack it once, '
                        f'`gunzip {path.rpartition("/")[2]}` for .tar.gz, into a .tar file.')


def _inner(root: DataRoot, archive: Entry) -> list[tuple[str, int, int]]:
    """The tar files in a tar file."""
    if not archive.name.endswith('.tar'):
        return []
    with root.open(archive.name) as file:
        return inner_archives(file, f'{root}/{archive.name}')


def _guess(sources: Sequence[Source]) -> str:
    if all(source.kind == 'tar' and _SHARD.search(source.stem) for source in sources):
        return 'shards'
    return 'class-archives' if len(sources) > 1 or sources[0].inner else 'archive'


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
            listing = list_tar(open_inner(file, source.start, source.length), where, label)
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
