"""A trained student as a file for other people: plain tensors, a hash in its name, and where it comes from."""
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

from mmtinyvit.compat import MINIMUM_VERSIONS, installed_version
from mmtinyvit.datasets.identity import plain_json
from mmtinyvit.errors import UserError
from mmtinyvit.models.checkpoints import read_checkpoint
from mmtinyvit.models.weights import fill_module
from mmtinyvit.paths import config_root
from mmtinyvit.store import LogitStore
from mmtinyvit.store.files import write_atomically
from mmtinyvit.version import __version__

from .models import check_types, classes_of, plain_config

__all__ = ['Published', 'pack_weights', 'publish', 'refuse_same_file', 'write_file']

HASH_DIGITS = 8  # as torch.hub expects them in a name


class Published(NamedTuple):
    """What :func:`publish` wrote: the file, its tensors, and its ``meta``."""
    path: Path
    state_dict: dict[str, Tensor]
    meta: dict[str, Any]


def publish(cfg: Config, checkpoint: str, destination: Path, store: str | None = None) -> Published:
    """Write a student without what only training needs.

    The file holds a plain state dict, as mmpretrain's ``ImageClassifier`` takes it, and as plain values the model, the
    test pipeline, the names of the classes, and the provenance: recipe, checkpoint, store, teacher, versions. Paths of
    this machine are left out. ``mmtinyvit.get_model`` needs nothing else.

    Args:
        cfg: The config that the checkpoint was trained with.
        checkpoint: File or URL.
        destination: ``folder/name.pth`` or ``folder/name.safetensors``; the file becomes ``folder/name-HASH.pth``, with
            the first digits of its own SHA-256.
        store: The store that it was distilled from, if that has moved since.

    Raises:
        UserError: The checkpoint does not fill the model, the store is another one, or the file cannot be written.
    """
    if destination.suffix not in ('.pth', '.safetensors'):
        raise UserError(f'{destination} must end with .pth or .safetensors, which say what to write.')
    plain = plain_config(cfg)
    check_types(plain, cfg.filename)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(Config(plain).model)
    weights, training_meta = read_checkpoint(checkpoint)
    fill_module(model, weights, checkpoint)
    recipe = Path(cfg.filename).resolve()
    recipe = recipe.relative_to(config_root()) if recipe.is_relative_to(config_root()) else recipe.name
    versions = dict(mmtinyvit=__version__, torch=torch.__version__, timm=version('timm'))
    versions |= {name: installed_version(MINIMUM_VERSIONS[name][0]) for name in ('mmengine', 'mmcv', 'mmpretrain')}
    origin = dict(recipe=str(recipe), checkpoint=Path(checkpoint).name, epochs=training_meta.get('epoch'),
                  store=_store(training_meta.get('teacher_store'), store), versions=versions)
    meta = dict(config=plain, provenance=origin)
    classes = classes_of(training_meta, plain['model'])
    if classes:
        meta['dataset_meta'] = dict(classes=classes)
    meta = plain_json(meta)  # plain values alone, also where a string is a torch.TorchVersion
    state_dict = model.state_dict()
    content = pack_weights(state_dict, destination.suffix, meta)
    digest = hashlib.sha256(content).hexdigest()[:HASH_DIGITS]
    path = destination.with_name(f'{destination.stem}-{digest}{destination.suffix}')
    write_file(path, content)
    return Published(path, state_dict, meta)


def _store(recorded: dict | None, given: str | None) -> dict[str, Any] | None:
    """Identity of the store, and of its teacher if the store is here; None for a student of labels."""
    if recorded is None:
        if given:
            raise UserError(f'The checkpoint was not distilled from a store: leave out {given}.')
        return None
    known = dict(store_id=recorded['store_id'])
    where = given or recorded['path']
    if not given and not ('://' in where or Path(where).is_dir()):
        return known  # moved, or several: their identity is all that the checkpoint has
    found = LogitStore(where)
    store_id = found.manifest.store_id.hex()
    if store_id != recorded['store_id']:
        if not given:
            return known
        raise UserError(f"The student was distilled from the store {recorded['store_id'][:12]}, and {given} is "
                        f'{store_id[:12]}: name the right one.')
    prints = found.manifest.fingerprints
    return known | dict(samples=found.num_samples, views=len(found.views), topk=found.topk,
                        classes=found.num_classes, codec=found.codec, teacher=prints.get('teacher'),
                        versions=prints.get('versions'))


# ---------------------------------------------------------------- files of weights, whole or absent
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
    write_pieces(path, [content])


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """As :func:`write_file`, of a file in several pieces.

    A link stays one, and the file that it names is written. A device or a named pipe stays what it is.
    """
    try:
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open('wb') as file:
                file.writelines(pieces)
        else:
            write_atomically(path, pieces)
    except OSError as error:
        raise UserError(f'Cannot write {path} ({error.strerror}): choose another path.') from error
