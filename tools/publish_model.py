"""Write a trained student as a file for other people.

    python tools/publish_model.py configs/tinyvit/tiny_vit_5m_distill_in1k.py \\
        work_dirs/tiny_vit_5m_distill_in1k/epoch_300.pth published/tiny_vit_5m_distill_in1k.safetensors

The result has the first digits of its SHA-256 in its name, holds the student alone, and says where it comes from:
recipe, store, teacher and versions. `mmtinyvit.get_model(file)` needs nothing else.
"""
import argparse
import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mmtinyvit.apis.models import check_types, classes_of, plain_config
from mmtinyvit.apis.weight_files import pack_weights, write_file
from mmtinyvit.cli.command import add_config_options, file_table, run_command
from mmtinyvit.compat import MINIMUM_VERSIONS, installed_version
from mmtinyvit.config import read_config
from mmtinyvit.datasets.identity import plain_json
from mmtinyvit.errors import UserError
from mmtinyvit.models.weights import fill_module, read_checkpoint
from mmtinyvit.paths import config_root
from mmtinyvit.store import LogitStore
from mmtinyvit.version import __version__

HASH_DIGITS = 8  # as torch.hub expects them in a name


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write a trained student as a file for other people.')
    parser.add_argument('config', help='the config that it was trained with')
    parser.add_argument('checkpoint', help='the checkpoint, file or URL')
    parser.add_argument('destination', type=Path, help='NAME.pth or NAME.safetensors; the hash is put behind NAME')
    parser.add_argument('--store', help='the store that it was distilled from, if that has moved since')
    add_config_options(parser)
    return parser.parse_args()


def publish(cfg: Config, checkpoint: str, destination: Path, store: str | None = None
            ) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """Write a student without what only training needs.

    The file holds a plain state dict, as mmpretrain's ``ImageClassifier`` takes it, and as plain values the model, the
    test pipeline, the names of the classes, and the provenance: recipe, checkpoint, store, teacher, versions. So
    ``mmtinyvit.get_model`` needs nothing else, and runs no code from it. Paths of this machine are left out.

    Args:
        cfg: The config that the checkpoint was trained with.
        checkpoint: File or URL.
        destination: ``folder/name.pth`` or ``folder/name.safetensors``; the file becomes ``folder/name-HASH.pth``, with
            the first digits of its own SHA-256.
        store: The store that it was distilled from, if that has moved since.

    Returns:
        tuple: The file, its tensors, and its ``meta``.

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
                  store=store_identity(training_meta.get('teacher_store'), store), versions=versions)
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
    return path, state_dict, meta


def store_identity(recorded: dict | None, given: str | None) -> dict[str, Any] | None:
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
    if store_id != recorded['store_id'] and given:
        raise UserError(f"The student was distilled from the store {recorded['store_id'][:12]}, and {given} is "
                        f'{store_id[:12]}: name the right one.')
    if store_id != recorded['store_id']:
        return known
    prints = found.manifest.fingerprints
    return known | dict(samples=found.num_samples, views=len(found.views), topk=found.topk,
                        classes=found.num_classes, codec=found.codec, teacher=prints.get('teacher'),
                        versions=prints.get('versions'))


def main() -> None:
    args = parse_args()
    cfg = read_config(args.config)
    cfg.merge_from_dict(args.cfg_options)
    path, state_dict, meta = publish(cfg, args.checkpoint, args.destination, args.store)
    console = Console()
    console.print(file_table(path, state_dict))
    table = Table('provenance', '')
    for name, value in meta['provenance'].items():
        if name == 'store':
            table.add_row('store', value['store_id'][:12] if value else 'none: trained with labels')
            if value:
                teacher = value.get('teacher')
                table.add_row('teacher', f"{teacher['name']} {teacher['weights_hash'][:12]}" if teacher else
                              'unknown: the store is not here (--store)')
        elif name == 'versions':
            table.add_row('versions', ', '.join(f'{library} {found}' for library, found in value.items()))
        else:
            table.add_row(name, str(value))
    console.print(table)


if __name__ == '__main__':
    run_command(main)
