"""Files of weights, whole or absent: packed into bytes, and written in one go."""
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmtinyvit.errors import UserError
from mmtinyvit.store.files import write_atomically

__all__ = ['pack_weights', 'refuse_same_file', 'write_file']


def refuse_same_file(destination: Path, source: str | Path) -> None:
    """Raises :class:`UserError` if a converter would write over what it reads."""
    if destination.resolve() == Path(source).resolve():
        raise UserError(f'The destination {destination} is the source: choose another name.')


def pack_weights(state_dict: Mapping[str, Tensor], suffix: str, meta: Mapping[str, Any] | None = None,
                 name: str | None = None) -> bytes:
    """The bytes of a file of weights.

    Args:
        state_dict: The tensors.
        suffix: ``'.safetensors'``, where ``meta`` lies as JSON under the metadata ``mmtinyvit``; else a file of
            ``torch.save``: the state dict alone, or with ``meta`` as MMEngine's checkpoints have it.
        meta: Plain values.
        name: Put the tensors into a dict under this name, in a file of ``torch.save``.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in state_dict.items()}
    if suffix == '.safetensors':
        from safetensors.torch import save
        # one key: of several, safetensors writes the order that its hash map happens to have
        return save(tensors, {'mmtinyvit': json.dumps(meta)} if meta else {'format': 'pt'})
    content = dict(state_dict=tensors, meta=dict(meta)) if meta else {name: tensors} if name else tensors
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def write_file(path: Path, content: bytes) -> None:
    """Raises :class:`UserError` if ``content`` cannot be written; ``path`` is whole or as it was before."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, [content])
    except OSError as error:
        raise UserError(f'Cannot write {path} ({error.strerror}): choose another path.') from error
