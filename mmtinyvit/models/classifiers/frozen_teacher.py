"""Teachers of a training: models that are asked and never trained."""
import copy

import torch
from mmengine.model import revert_sync_batchnorm
from mmpretrain.models import TimmClassifier
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from ..data_preprocessors import Renormalise
from ..weights import fill_module, read_state_dict

__all__ = ['FrozenTeacher', 'build_teacher', 'names_weights']


def build_teacher(config: dict, checkpoint: str | None = None) -> nn.Module:
    """A model with all of its weights, in eval mode and without gradients.

    Args:
        config: Config of the model. It is left as it is.
        checkpoint: File or URL that must fill the model. Without one, the weights are those that the config names
            (``pretrained`` of timm, or an ``init_cfg`` of type ``Pretrained`` at any depth); if it names none, they
            are random.

    Raises:
        UserError: The checkpoint does not fill the model.
    """
    model = MODELS.build(copy.deepcopy(config))
    if checkpoint is not None:
        fill_module(model, read_state_dict(checkpoint), checkpoint)
    elif names_weights(config) and not isinstance(model, TimmClassifier):  # timm has loaded its weights already
        model.init_weights()  # MMEngine calls it before training only
    return _frozen(revert_sync_batchnorm(model))


def _frozen(model: nn.Module) -> nn.Module:
    """``model`` in eval mode and without gradients."""
    model.eval()  # which returns None in mmpretrain's backbones
    return model.requires_grad_(False)


def names_weights(config: object) -> bool:
    """Whether a config says ``pretrained``, or has an ``init_cfg`` of type ``Pretrained``, at any depth."""
    if isinstance(config, dict):
        return bool(config.get('pretrained')) or config.get('type') == 'Pretrained' or any(
            map(names_weights, config.values()))
    return isinstance(config, (list, tuple)) and any(map(names_weights, config))


class FrozenTeacher:
    """A teacher for training with a teacher beside the student, or for whoever else needs its answers.

    It is no ``nn.Module``, and a module that holds one does not own it: the teacher is not in its ``state_dict()``,
    ``parameters()`` or ``modules()``, so that no optimiser, DDP wrapper or checkpoint sees it, and a deep copy, as
    ``EMAHook`` makes of the student, shares it. It stays in eval mode, computes without gradients, under the caller's
    autocast, and follows the device of what it is asked about. The model is built when :meth:`load` is called or the
    first question comes, on random numbers of its own: the student starts from the same weights with any teacher, and
    testing builds none.

    Args:
        model: Config of an mmpretrain or timm classifier with a ``data_preprocessor`` of its own, or a built model. For
            a ``TimmClassifier``, the mean and std of timm's ``get_pretrained_cfg(model_name)`` are the default.
        checkpoint: File or URL that fills the model. Not needed if the config says ``pretrained``.
    """

    def __init__(self, model: dict | nn.Module, checkpoint: str | None = None) -> None:
        self.config = model
        self.checkpoint = checkpoint
        self._model: nn.Module | None = None
        self._device: torch.device | None = None
        self._renormalise: tuple[nn.Module, Renormalise] | None = None

    def load(self) -> nn.Module:
        """The model; builds it at the first call.

        Raises:
            UserError: The config has no weights or no normalisation, or the checkpoint does not fill the model.
        """
        if self._model is None:
            with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                model = self.config if isinstance(self.config, nn.Module) else self._build(copy.deepcopy(self.config))
            self._model = _frozen(model).to(memory_format=torch.channels_last)
        return self._model

    @torch.no_grad()
    def __call__(self, inputs: Tensor, preprocessor: nn.Module) -> Tensor:
        """Ask about a batch as the student gets it: augmented, mixed and normalised for the student.

        Mixing is linear, so changing the normalisation afterwards gives what mixing under the teacher's own
        normalisation gives, up to the rounding of one multiplication; with equal normalisation nothing is changed.

        Args:
            inputs: ``(B, 3, H, W)``, as ``preprocessor`` gave it.
            preprocessor: The student's.

        Returns:
            Tensor: Logits ``(B, C)``, without gradient.

        Raises:
            UserError: The teacher gives something else.
        """
        model = self.load()
        if self._device != inputs.device:
            self._device, self._model = inputs.device, model.to(inputs.device)
        if self._renormalise is None or self._renormalise[0] is not preprocessor:
            self._renormalise = preprocessor, Renormalise(preprocessor, model.data_preprocessor)
        inputs = self._renormalise[1](inputs)
        logits = model(inputs.contiguous(memory_format=torch.channels_last), mode='tensor')
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise UserError(f'The teacher {type(model).__name__} does not return logits (B, C) in tensor mode: give it '
                            'one classification head.')
        return logits

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacher':
        return self

    def _build(self, config: dict) -> nn.Module:
        name = config.get('model_name') or config.get('backbone', {}).get('type') or config.get('type')
        if not (self.checkpoint or names_weights(config)):
            raise UserError(f'The teacher {name} has no weights: give teacher=dict(model=..., checkpoint=FILE), or '
                            'pretrained=True in its model.')
        if not config.get('data_preprocessor'):
            config['data_preprocessor'] = _timm_preprocessor(config, name)
        return build_teacher(config, self.checkpoint)


def _timm_preprocessor(config: dict, name: str) -> dict:
    """timm's normalisation of a model, as a data preprocessor over pixels from 0 to 255."""
    found = None
    if 'model_name' in config:
        from timm import get_pretrained_cfg
        found = get_pretrained_cfg(config['model_name'], allow_unregistered=True)
    if found is None or not found.mean:
        raise UserError(f'The teacher {name} needs a data_preprocessor in its config, with the mean, std and to_rgb it '
                        'was trained with: a teacher has its own normalisation.')
    return dict(type='mmpretrain.ClsDataPreprocessor', mean=[255 * m for m in found.mean],
                std=[255 * s for s in found.std], to_rgb=True)
