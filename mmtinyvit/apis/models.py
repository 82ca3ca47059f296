"""Models by name, by config, or by published file; and what of a recipe such a model needs."""
import copy
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mmengine.registry
import mmpretrain.registry
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import mmtinyvit.registry
from mmtinyvit.config import read_config
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import checkpoint_classes, class_names
from mmtinyvit.models.checkpoint_keys import unwrap_checkpoint
from mmtinyvit.models.checkpoints import read_checkpoint
from mmtinyvit.models.weights import fill_module
from mmtinyvit.paths import mim_root
from mmtinyvit.zoo.index import find_entries, find_entry

__all__ = ['check_types', 'classes_of', 'get_config', 'get_model', 'list_models', 'plain_config']

PUBLISHED = ('.pth', '.safetensors')
PLAIN = {  # the type that has the same parameters and no teacher
    'ImageClassifier': 'mmpretrain.ImageClassifier',
    'DistillClassifier': 'mmpretrain.ImageClassifier',
    'DeiTDistillClassifier': 'mmpretrain.ImageClassifier',
    'TimmClassifier': 'mmpretrain.TimmClassifier',
    'DistillTimmClassifier': 'mmpretrain.TimmClassifier',
}
TRAINING = {'train_cfg', 'teacher', 'distill', 'label_weight', 'alpha'}  # of the classifier
LOADING = {'init_cfg', 'pretrained', 'checkpoint_path'}  # of any part
NORMALISATION = ('mean', 'std', 'to_rgb', 'num_classes', 'pad_size_divisor', 'pad_value', 'input_size')
# Which classes of others may be built. mmpretrain's registry also has some that fetch foreign code and run it.
TRUSTED = re.compile(r'mmpretrain\.models\.(backbones|classifiers|heads|losses|necks|utils\.data_preprocessor)\b|'
                     r'mmpretrain\.datasets\.transforms\b|(mmcv|mmengine|torch\.nn)\b')


def list_models(pattern: str | None = None) -> list[str]:
    """Names of the published models; ``pattern`` is as in ``mmpretrain.list_models``, and any ending matches it."""
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
        model: A name from :func:`list_models`, the path of a config, or what ``mmtinyvit publish`` wrote (a file
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
    path, names = Path(model), None
    if path.suffix in PUBLISHED:
        source = str(model)
        weights, meta = read_checkpoint(source)
        if 'config' not in meta:
            raise UserError(f'{source} does not say which model it is for: give the model by name or config, and '
                            f'pretrained={source!r}; or write the file with "mmtinyvit publish".')
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
        names = class_names('fall11' if entry.data == 'ImageNet-21k' else 'in1k')
    cfg = Config(plain_config(cfg), filename=cfg.filename)
    if path.suffix in PUBLISHED:
        check_types(cfg.to_dict(), source)
    else:
        weights, meta = read_checkpoint(source) if source else (None, {})
    cfg.merge_from_dict(dict(model=copy.deepcopy(kwargs)))  # merging takes `_delete_` out of what it gets
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        classifier = MODELS.build(cfg.model)
    if weights is not None:
        fresh = ('head.', ) if 'head' in kwargs else ()
        weights = unwrap_checkpoint(weights, classifier.state_dict())
        to_ours = getattr(getattr(classifier, 'backbone', None), '_checkpoint_filter', None)
        if fresh and to_ours:  # heads have other names in other layouts
            to_ours(weights, '')
        weights = {name: value for name, value in weights.items() if not name.startswith(fresh)}
        fill_module(classifier, weights, str(source), fresh)
    classifier._config = cfg
    published = dict(dataset_meta=dict(classes=names))
    classifier._dataset_meta = dict(classes=classes_of(meta, cfg.model) or classes_of(published, cfg.model))
    classifier._metainfo = SimpleNamespace(results=[SimpleNamespace(task='Image Classification')])
    return classifier.to(device or 'cpu').eval()


# ---------------------------------------------------------------- what is left of a recipe when training is over
def plain_config(cfg: Config) -> dict[str, Any]:
    """The part of a classifier's config that inference needs, in plain values.

    Returns:
        dict: ``model``, an ``ImageClassifier`` or ``TimmClassifier`` of mmpretrain with its ``data_preprocessor``, and
        ``test_dataloader.dataset.pipeline``, where mmpretrain's inferencers look for it.

    Raises:
        UserError: It is no classifier, or has no test pipeline.
    """
    whole = cfg.to_dict()
    model = whole.get('model') or {}
    kind = str(model.get('type', '')).rpartition('.')[-1]
    if kind not in PLAIN:
        raise UserError(f'The config {cfg.filename} has a model of type {model.get("type")}, which is no classifier of '
                        f'this kind: {", ".join(PLAIN)}.')
    loader = whole.get('test_dataloader') or whole.get('val_dataloader')
    if not loader:
        raise UserError(f'The config {cfg.filename} has no test_dataloader, so how to prepare an image is unknown: add '
                        'one.')
    preprocessor = model.pop('data_preprocessor', None) or whole.get('data_preprocessor') or {}
    normalise = {name: preprocessor[name] for name in NORMALISATION if preprocessor.get(name) is not None}
    normalise['type'] = 'mmtinyvit.ReplayDataPreprocessor' if 'input_size' in normalise else (
        'mmpretrain.ClsDataPreprocessor')
    model = _without_loading({name: value for name, value in model.items() if name not in TRAINING})
    return dict(model=model | dict(type=PLAIN[kind], data_preprocessor=normalise),
                test_dataloader=dict(dataset=dict(pipeline=_without_loading(loader['dataset']['pipeline']))))


def check_types(plain: Mapping[str, Any], source: str) -> None:
    """Make sure that a config from ``source`` names parts of these libraries, and nothing that runs code of its own.

    MMEngine's registries import whatever a type with dots names, ``os.system`` included.

    Raises:
        UserError: A type is no class of mmpretrain, mmcv, MMEngine or PyTorch, and none that this library or somebody
            else has registered with this library.
    """
    known = {}
    for registries in (mmengine.registry, mmpretrain.registry, mmtinyvit.registry):
        for registry in (registries.MODELS, registries.TRANSFORMS):
            registry.import_from_location()
            scope = registries.__name__.partition('.')[0]
            for name, part in registry.module_dict.items():
                if inspect.isclass(part) and (scope == 'mmtinyvit' or TRUSTED.match(part.__module__)):
                    known |= {name: part, f'{scope}.{name}': part}
    for name in _types(plain):
        if name not in known and f'mmengine.{name.removeprefix("mmcv.")}' not in known:
            raise UserError(f'The model of {source} has a part of type {name}, which is no class of mmpretrain, mmcv, '
                            'MMEngine or this library, so it is not built: import the project that registers it with '
                            'mmtinyvit.registry, or give its config and the weights.')


def _types(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if 'type' in value:
            yield str(value['type'])
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _types(item)


def classes_of(meta: Mapping[str, Any], model: Mapping[str, Any]) -> list[str] | None:
    """The class names that a checkpoint's ``meta`` has, if they are those of the model's outputs.

    A student's outputs are the classes of its teacher, and may differ from the classes of the images it was trained on.
    """
    classes = checkpoint_classes(meta)
    outputs = (model.get('head') or model).get('num_classes')
    return list(classes) if classes and len(classes) == outputs else None


def _without_loading(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_loading(item) for name, item in value.items() if name not in LOADING}
    if isinstance(value, list | tuple):
        return [_without_loading(item) for item in value]
    return value
