"""What is left of a recipe when training is over: the classifier, and how an image is prepared for it."""
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmtinyvit.errors import UserError

__all__ = ['classes_of', 'plain_config']

PLAIN = {  # the type that has the same parameters and no teacher
    'ImageClassifier': 'mmpretrain.ImageClassifier',
    'DistillClassifier': 'mmpretrain.ImageClassifier',
    'DeiTDistillClassifier': 'mmpretrain.ImageClassifier',
    'TimmClassifier': 'mmpretrain.TimmClassifier',
    'DistillTimmClassifier': 'mmpretrain.TimmClassifier',
}
TRAINING = ('train_cfg', 'teacher', 'distill', 'label_weight', 'alpha', 'init_cfg', 'pretrained')
NORMALISATION = ('mean', 'std', 'to_rgb', 'num_classes', 'pad_size_divisor', 'pad_value')


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
    model = _without_training(model) | dict(
        type=PLAIN[kind], data_preprocessor=dict(
            {name: preprocessor[name] for name in NORMALISATION if name in preprocessor},
            type='mmpretrain.ClsDataPreprocessor'))
    pipeline = [_without_training(step) for step in loader['dataset']['pipeline']]
    return dict(model=model, test_dataloader=dict(dataset=dict(pipeline=pipeline)))


def classes_of(meta: Mapping[str, Any], model: Mapping[str, Any]) -> list[str] | None:
    """The class names that a checkpoint's ``meta`` has, if they are those of the model's outputs.

    A student's outputs are the classes of its teacher, and may differ from the classes of the images it was trained on.
    """
    classes = (meta.get('dataset_meta') or {}).get('classes')
    outputs = (model.get('head') or model).get('num_classes')
    return list(classes) if classes and len(classes) == outputs else None


def _without_training(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_training(each) for name, each in value.items() if name not in TRAINING}
    if isinstance(value, list | tuple):
        return [_without_training(each) for each in value]
    return value
