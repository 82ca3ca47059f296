"""What is left of a recipe when training is over: the classifier, and how an image is prepared for it."""
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import mmengine.registry
import mmpretrain.registry
from mmengine.config import Config

import mmtinyvit.registry
from mmtinyvit.errors import UserError

__all__ = ['check_types', 'classes_of', 'plain_config']

PLAIN = {  # the type that has the same parameters and no teacher
    'ImageClassifier': 'mmpretrain.ImageClassifier',
    'DistillClassifier': 'mmpretrain.ImageClassifier',
    'DeiTDistillClassifier': 'mmpretrain.ImageClassifier',
    'TimmClassifier': 'mmpretrain.TimmClassifier',
    'DistillTimmClassifier': 'mmpretrain.TimmClassifier',
}
TRAINING = {'train_cfg', 'teacher', 'distill', 'label_weight', 'alpha'}  # of the classifier
LOADING = {'init_cfg', 'pretrained'}  # of any part
NORMALISATION = ('mean', 'std', 'to_rgb', 'num_classes', 'pad_size_divisor', 'pad_value', 'input_size')
# Which classes of others may be built. mmpretrain's registry also has some that fetch foreign code and run it.
TRUSTED = re.compile(r'mmpretrain\.models\.(backbones|classifiers|heads|losses|necks|utils\.data_preprocessor)\b|'
                     r'mmpretrain\.datasets\.transforms\b|(mmcv|mmengine|torch\.nn)\b')


def plain_config(cfg: Config) -> dict[str, Any]:
    """The part of a config that inference needs, in plain values.

    Args:
        cfg: Config of a classifier that this library trains, distils or tests.

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
    """Make sure that a config from a file names parts of these libraries, and nothing that could run code of its own.

    MMEngine's registries import whatever a type with dots names, ``os.system`` included.

    Args:
        plain: From :func:`plain_config`.
        source: Where it comes from, for the error.

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
        for each in value:
            yield from _types(each)


def classes_of(meta: Mapping[str, Any], model: Mapping[str, Any]) -> list[str] | None:
    """The class names that a checkpoint's ``meta`` has, if they are those of the model's outputs.

    A student's outputs are the classes of its teacher, and may differ from the classes of the images it was trained on.
    """
    classes = (meta.get('dataset_meta') or {}).get('classes')
    outputs = (model.get('head') or model).get('num_classes')
    return list(classes) if classes and len(classes) == outputs else None


def _without_loading(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_loading(each) for name, each in value.items() if name not in LOADING}
    if isinstance(value, list | tuple):
        return [_without_loading(each) for each in value]
    return value
