"""Models by name, by config, or by published file."""
import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import IN21K_LAYOUTS, class_names
from mmtinyvit.models.weights import fill_module, read_checkpoint
from mmtinyvit.paths import mim_root
from mmtinyvit.zoo.index import find_entries, find_entry

from .config import read_config
from .plain_config import check_types, classes_of, plain_config

__all__ = ['get_config', 'get_model', 'list_models']

PUBLISHED = ('.pth', '.safetensors')


def list_models(pattern: str | None = None) -> list[str]:
    """Names of the published models that this library knows.

    Args:
        pattern: Wildcards as in ``mmpretrain.list_models``; any ending matches: ``'*21m'``.
    """
    return sorted(entry.name for entry in find_entries(pattern))


def get_config(name: str) -> Config:
    """The recipe of a published model.

    Raises:
        UserError: There is no such model.
    """
    return read_config(mim_root() / find_entry(name).config)


def get_model(model: str | Path, pretrained: bool | str | Path = False, device: str | torch.device | None = None,
              **kwargs: Any) -> nn.Module:
    """A classifier in eval mode, as mmpretrain's inferencers and ``inference_model`` take it.

    Args:
        model: A name from :func:`list_models`, the path of a config, or what ``tools/publish_model.py`` wrote (a file
            or its URL), which brings its own weights.
        pretrained: True for the weights of the name, downloaded once; or a checkpoint, file or URL, in any layout that
            the backbone takes. False leaves random weights.
        device: Where to put it.
        **kwargs: Override parts of the model, such as
            ``backbone=dict(out_indices=(0, 1, 2, 3), gap_before_output=False), head=None``; merged as MMEngine merges
            configs. A head that is overridden starts anew; everything else must be filled.

    Raises:
        UserError: There is no such model, or the weights do not fill it.
    """
    path = Path(model)
    meta: dict = {}
    weights = names = None
    if path.suffix in PUBLISHED:
        source = str(model)
        weights, meta = read_checkpoint(source)
        if 'config' not in meta:
            raise UserError(f'{source} does not say which model it is for: give the model by name or config, and '
                            f'pretrained={source!r}; or write the file with tools/publish_model.py.')
        if pretrained:
            raise UserError(f'{source} brings its own weights: leave out pretrained.')
        cfg = Config(meta['config'])
    elif path.suffix == '.py':
        if pretrained is True:
            raise UserError(f'The config {path} has no published weights: give a checkpoint as pretrained.')
        cfg, source = read_config(path), pretrained
    else:
        entry = find_entry(str(model))
        cfg, source = get_config(entry.name), entry.url if pretrained is True else pretrained
        names = class_names(IN21K_LAYOUTS[21841] if entry.data == 'ImageNet-21k' else 'imagenet-1k')
    cfg = Config(plain_config(cfg), filename=cfg.filename)
    if weights is not None:
        check_types(cfg.to_dict(), source)
    cfg.merge_from_dict(dict(model=copy.deepcopy(kwargs)))  # merging takes `_delete_` out of what it gets
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        classifier = MODELS.build(cfg.model)
    if weights is None and source:
        weights, meta = read_checkpoint(str(source))
    if weights is not None:
        _fill(classifier, weights, str(source), new_head='head' in kwargs)
    classifier._config = cfg
    classifier._dataset_meta = dict(classes=classes_of(meta, cfg.model) or names)
    classifier._metainfo = SimpleNamespace(results=[SimpleNamespace(task='Image Classification')])
    return classifier.to(device or 'cpu').eval()


def _fill(classifier: nn.Module, weights: dict[str, torch.Tensor], source: str, new_head: bool) -> None:
    if not new_head:
        fill_module(classifier, weights, source)
        return
    to_ours = getattr(getattr(classifier, 'backbone', None), '_checkpoint_filter', None)
    if to_ours:
        to_ours(weights, '')
    weights = {name: value for name, value in weights.items() if not name.startswith('head.')}
    fill_module(classifier, weights, source, fresh=('head.', ))
