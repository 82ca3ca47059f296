"""The metafiles of ``model-index.yml`` as plain rows."""
import difflib
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlparse

import yaml

from mmtinyvit.errors import UserError
from mmtinyvit.paths import mim_root

__all__ = ['Entry', 'entries', 'entry_at', 'find_entries', 'find_entry']


class Entry(NamedTuple):
    """A published checkpoint.

    Attributes:
        name: As in :func:`mmtinyvit.list_models`.
        config: Path of the config below :func:`~mmtinyvit.paths.mim_root`.
        url: The publisher's address of the checkpoint.
        sha256: The checksum of the file in hexadecimal digits, or its beginning; None where no one has published it.
        data: What it was trained on.
        parameters: Number of parameters, classifier included.
        macs: Multiply-adds of one image.
        top1, top5: Published accuracies on ImageNet-1K in per cent, or None.
    """
    name: str
    config: str
    url: str
    sha256: str | None
    data: str
    parameters: int
    macs: int
    top1: float | None
    top5: float | None

    @property
    def file_name(self) -> str:
        """Name of the published file."""
        return Path(urlparse(self.url).path).name


@cache
def entries() -> dict[str, Entry]:
    """All published checkpoints by name, in the order of the metafiles."""
    index = yaml.safe_load((mim_root() / 'model-index.yml').read_text())
    rows = [model for path in index['Import'] for model in yaml.safe_load((mim_root() / path).read_text())['Models']]
    return {row['Name']: _entry(row) for row in rows}


def _entry(row: dict) -> Entry:
    meta, accuracy = row['Metadata'], row['Results'][0]['Metrics']
    data = meta['Training Data']
    return Entry(row['Name'], row['Config'], row['Weights'], row['SHA256'],
                 data if isinstance(data, str) else ', '.join(data), meta['Parameters'], meta['FLOPs'],
                 accuracy.get('Top 1 Accuracy'), accuracy.get('Top 5 Accuracy'))


def find_entry(name: str) -> Entry:
    """The checkpoint of that name.

    Raises:
        UserError: There is none; names similar ones.
    """
    if name not in entries():
        near = difflib.get_close_matches(name, entries(), n=3, cutoff=0.4)
        hint = f'did you mean {" or ".join(near)}?' if near else 'mmtinyvit.list_models() has the names.'
        raise UserError(f'There is no published model {name}: {hint}')
    return entries()[name]


def entry_at(url: str) -> Entry | None:
    """The checkpoint that was published at ``url``, if it is listed."""
    return next((entry for entry in entries().values() if entry.url == url), None)


def find_entries(pattern: str | None = None) -> list[Entry]:
    """The checkpoints whose name matches a wildcard pattern, with any ending, as in ``mmpretrain.list_models``."""
    return [entry for name, entry in entries().items() if fnmatchcase(name, f'{pattern or ""}*')]
