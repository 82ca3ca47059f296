"""An image index at a URL, kept once on this machine."""
import hashlib
from pathlib import Path

from ...errors import UserError
from ...store.cache import cache_folder, caching, keep_file
from ...store.connection import connect, explain, short_reason
from ...store.folders import is_url
from ..identity import dataset_identity
from .index import ImageIndex

__all__ = ['local_index']

_VERSION = ('size', 'ETag', 'LastModified', 'mtime', 'created')  # what protocols tell of a file that changes with it


def local_index(path: str) -> str:
    """``path``, or where this machine keeps the index at the URL ``path``, which is fetched if it is not here yet.

    One that has changed at the URL is fetched again. All processes share what is kept.

    Raises:
        UserError: There is none at the URL, it cannot be fetched or kept, or it is damaged.
    """
    if not is_url(path):
        return path
    system, inside = connect(path, UserError)
    try:
        system.invalidate_cache()
        info = system.info(inside)
    except FileNotFoundError as error:
        raise UserError(f'The image index {path} does not exist ({short_reason(error)}): write it with '
                        'tools/dataset_converters/index_images.py and put it there, or name a local one.') from error
    except Exception as error:  # each protocol's library has its own exceptions
        raise UserError(explain(error, f'read {path}')) from error

    def fetch(part: Path) -> None:
        try:
            system.get_file(inside, str(part))
        except Exception as error:
            raise UserError(explain(error, f'read {path}')) from error
        try:
            index = ImageIndex(part)
            intact = dataset_identity(index.keys(), None)['order_hash'] == index.keys_sha256
        except UserError as error:
            raise UserError(str(error).replace(str(part), path)) from error
        if not intact:
            raise UserError(f'The image index {path} is damaged: put it there again.')

    version = ' '.join(str(info.get(name)) for name in _VERSION)
    cache = cache_folder().absolute()
    kept = cache / 'indexes' / f'{hashlib.sha256(f"{path} {version}".encode()).hexdigest()[:32]}.index'
    with caching(cache):
        keep_file(cache, kept, fetch)
    return str(kept)
