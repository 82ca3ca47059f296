"""Models that are asked and never trained: a teacher beside a student, and several classifiers as one teacher."""
import copy
import math
from collections.abc import Mapping, Sequence
from functools import partial, reduce

import torch
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmpretrain.models import TimmClassifier
from mmpretrain.structures import DataSample
from timm import get_pretrained_cfg
from timm.data import infer_imagenet_subset
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import checkpoint_classes, list_classes, require_same_classes
from mmtinyvit.registry import MODELS
from mmtinyvit.store.record import check_weights

from ..checkpoints import read_checkpoint
from ..data_preprocessors import renormalise
from ..weights import PretrainedMixin, fill_module, fill_part, pretrained_parts, timm_as_init_cfg

__all__ = ['EnsembleClassifier', 'FrozenTeacher', 'RandomTeacherError', 'build_teacher', 'class_logits', 'fill_teacher']


class RandomTeacherError(UserError):
    """Parameters of a teacher would be random.

    Args:
        fault: The sentence without the way out, which is that of a config.
    """

    def __init__(self, fault: str) -> None:
        super().__init__(f'{fault}, which would be random: name its checkpoint, or pretrained=True in its model; '
                         '--random-teacher (random_teacher=True in a config) takes it as it is.')
        self.fault = fault


def build_teacher(config: dict, checkpoint: str | None = None, random_teacher: bool = False) -> nn.Module:
    """A model with all of its weights, in eval mode and without gradients.

    Its attribute ``class_names`` has the names of its classes, if the checkpoint or timm tells them, or None.

    Args:
        config: Config of the model. It is left as it is.
        checkpoint: File or URL that must fill the model. Without one, the weights are those that the config names: see
            :func:`_without_source`, or an ``init_cfg`` of type ``Pretrained`` at any depth.
        random_teacher: Whether weights may come from nowhere.

    Raises:
        UserError: A checkpoint does not fill what it is for, or some weights come from nowhere.
    """
    config = timm_as_init_cfg(copy.deepcopy(config))
    model = MODELS.build(copy.deepcopy(config))  # building takes entries out
    names = getattr(model, 'class_names', None)  # of an ensemble
    if checkpoint is not None:
        weights, meta = read_checkpoint(checkpoint)
        fill_module(model, weights, checkpoint)
        names = checkpoint_classes(meta) or names
    else:
        fill_teacher(model, config, random_teacher)
        for place, _, settings in pretrained_parts(model):
            if place in ('', 'head.'):
                names = checkpoint_classes(read_checkpoint(settings['checkpoint'])[1]) or names
        if isinstance(model, TimmClassifier) and config.get('pretrained'):
            names = _timm_classes(model.model)
    model = revert_sync_batchnorm(model)
    model.eval()  # which returns None in mmpretrain's backbones
    model.class_names = names
    return model.requires_grad_(False)


def _timm_classes(network: nn.Module) -> tuple[str, ...] | None:
    """The classes of a network with timm's own weights, where its head is the published one for ImageNet."""
    subset = infer_imagenet_subset(network)
    kept = network.num_classes == network.pretrained_cfg.get('num_classes')
    return list_classes(subset) if subset and kept else None


def fill_teacher(model: nn.Module, config: dict, random_teacher: bool = False) -> None:
    """Fill each part whose ``init_cfg`` names a checkpoint, and make sure that no parameter is left random.

    Args:
        model: The model.
        config: Its config.
        random_teacher: Whether parameters may be left random.

    Raises:
        UserError: A checkpoint does not fill its part.
        RandomTeacherError: Some parameters come from nowhere: a store would be noise.
    """
    filled = []  # prefixes
    for place, part, settings in pretrained_parts(model):
        fill = part.load_pretrained if isinstance(part, PretrainedMixin) else partial(fill_part, part)
        fill(settings['checkpoint'], settings.get('prefix'))
        filled.append(place)
    left = [name for name in _without_source(model, config) if not name.startswith(tuple(filled))]
    if left and not random_teacher:
        name = config.get('model_name') or (config.get('backbone') or {}).get('type') or config.get('type')
        total, shown = sum(1 for _ in model.parameters()), ', '.join(left[:3]) + (', ...' if len(left) > 3 else '')
        raise RandomTeacherError(f'The teacher {name} has no weights for {len(left)} of its {total} tensors ({shown})')


def _without_source(model: nn.Module, config: dict) -> list[str]:
    """Names of the parameters of ``model`` that its own constructor did not load.

    A part loads its own if its config sets ``pretrained``, ``checkpoint`` or ``checkpoint_path``, as those of timm do;
    timm draws a new classifier if it is told another number of classes than it has weights for.
    """
    names = [name for name, _ in model.named_parameters()]
    if any(config.get(key) for key in ('pretrained', 'checkpoint', 'checkpoint_path')):
        network = getattr(model, 'model', None)
        known = getattr(network, 'pretrained_cfg', None) or {}
        new = known.get('classifier') if config.get('pretrained') and known.get('num_classes') != getattr(
            network, 'num_classes', None) else ()
        return [name for name in names if name.startswith(tuple(
            f'model.{part}.' for part in ([new] if isinstance(new, str) else new or ())))]
    parts = {}  # configs by the name of the module they are of
    for key, value in config.items():
        module = getattr(model, key, None)
        if isinstance(value, Mapping) and isinstance(module, nn.Module):
            parts[key] = module, value
        elif isinstance(value, list | tuple) and isinstance(module, nn.ModuleList):
            parts |= {f'{key}.{i}': pair for i, pair in enumerate(zip(module, value, strict=False))}
    found = {f'{part}.{name}' for part, (module, inner) in parts.items()
             for name in _without_source(module, inner)}
    return [name for name in names if name in found or not name.startswith(tuple(f'{part}.' for part in parts))]


def class_logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """A teacher's logits ``(B, C)`` of normalised images. Raises :class:`UserError` if it gives something else."""
    logits = model(inputs.contiguous(memory_format=torch.channels_last), mode='tensor')
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise UserError(f'The teacher {type(model).__name__} does not return logits (B, C) in tensor mode: give it one '
                        'classification head.')
    return logits


class FrozenTeacher:
    """A teacher beside the student.

    It is no ``nn.Module``, and a module that holds one does not own it: no ``state_dict()``, optimiser, DDP wrapper or
    checkpoint sees it, and a deep copy, as ``EMAHook`` makes of the student, shares it. It stays in eval mode, computes
    without gradients, under the caller's autocast, and follows the device of what it is asked about. The model is built
    when :meth:`load` is called or the first question comes, on random numbers of its own: the student starts from the
    same weights with any teacher, and testing builds none.

    Args:
        model: Config of an mmpretrain or timm classifier with a ``data_preprocessor`` of its own, or a built model. For
            a ``TimmClassifier``, the mean and std of timm's ``get_pretrained_cfg(model_name)`` are the default.
        checkpoint: File or URL that fills the model. Not needed if the config says ``pretrained``.
        random_teacher: Whether weights may come from nowhere.
    """

    def __init__(self, model: dict | nn.Module, checkpoint: str | None = None, random_teacher: bool = False) -> None:
        self.config = model
        self.checkpoint = checkpoint
        self.random_teacher = random_teacher
        self._model: nn.Module | None = None

    def load(self) -> nn.Module:
        """The model; builds it at the first call.

        Raises:
            UserError: The config has no weights or no normalisation, or the checkpoint does not fill the model.
        """
        if self._model is None:
            model = self.config
            if not isinstance(model, nn.Module):
                with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                    model = self._build(copy.deepcopy(model))
            model.eval()
            self._model = model.requires_grad_(False).to(memory_format=torch.channels_last)
        return self._model

    @torch.no_grad()
    def __call__(self, inputs: Tensor, preprocessor: nn.Module) -> Tensor:
        """Logits ``(B, C)``, without gradient, of a batch as the student gets it.

        Args:
            inputs: ``(B, 3, H, W)``, augmented, mixed and normalised for the student.
            preprocessor: The student's, which did it.

        Raises:
            UserError: The teacher gives something else.
        """
        model = self.load().to(inputs.device)
        return class_logits(model, renormalise(inputs, preprocessor, model.data_preprocessor))

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacher':
        return self

    def _build(self, config: dict) -> nn.Module:
        name = config.get('model_name') or config.get('backbone', {}).get('type') or config.get('type')
        if not config.get('data_preprocessor'):  # timm's, over pixels from 0 to 255
            found = get_pretrained_cfg(config.get('model_name', ''), allow_unregistered=True)
            if found is None or not found.mean:
                raise UserError(f'The teacher {name} needs a data_preprocessor in its config, with the mean, std and '
                                'to_rgb it was trained with: a teacher has its own normalisation.')
            config['data_preprocessor'] = dict(
                type='mmpretrain.ClsDataPreprocessor', mean=[255 * m for m in found.mean],
                std=[255 * s for s in found.std], to_rgb=True)
        return build_teacher(config, self.checkpoint, self.random_teacher)


@MODELS.register_module()
class EnsembleClassifier(BaseModel):
    """A teacher made of teachers, each with its own normalisation and input size. It answers; it is not trained.

    The logits are log(sum_i w_i softmax(z_i)), so that their softmax is the weighted mean of the probabilities.

    Args:
        teachers: Configs of classifiers whose ``tensor`` mode returns logits ``(B, C)``, such as ``TimmClassifier`` or
            ``ImageClassifier``. Each may have a ``data_preprocessor`` (``mmtinyvit.ReplayDataPreprocessor`` knows
            ``input_size``) and a ``checkpoint``, a file or URL that must fill it; ``pretrained`` of timm and
            ``init_cfg=dict(type='Pretrained', ...)`` work, too. A checkpoint of the whole ensemble overrides them.
        weights: One positive number per teacher, scaled to sum to 1; all alike by default.
        data_preprocessor: Of the teachers that have none of their own. The ensemble itself takes pixels as they are.
        init_cfg: As for any ``BaseModel``.

    Raises:
        UserError: There is no teacher, a checkpoint does not fill its teacher, the weights do not fit, or the teachers
            are of other classes, as far as these have names.
    """

    def __init__(self, teachers: Sequence[dict], weights: Sequence[float] | None = None,
                 data_preprocessor: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(dict(type='mmpretrain.ClsDataPreprocessor'), init_cfg)
        if not teachers:
            raise UserError('EnsembleClassifier has no teachers: list the configs of one or more classifiers.')
        self.weights = check_weights(weights, len(teachers))
        self.teachers = nn.ModuleList()
        for config in teachers:
            own = {name: value for name, value in config.items() if name != 'checkpoint'}
            if data_preprocessor is not None and own.get('data_preprocessor') is None:
                own['data_preprocessor'] = data_preprocessor
            # a checkpoint of the ensemble may bring what a member lacks: whoever asks it makes sure
            self.teachers.append(build_teacher(own, config.get('checkpoint'), random_teacher=True))
        self.class_names: tuple[str, ...] | None = None
        for names in filter(None, (teacher.class_names for teacher in self.teachers)):
            self.class_names = self.class_names or names
            require_same_classes(self.class_names, names, 'The teachers of an ensemble are of {ours} and of {theirs}',
                                 'they need the same, in the same order.')
        self._register_load_state_dict_pre_hook(self._name_timm)

    def _name_timm(self, state_dict: dict, prefix: str, *_) -> None:
        """Before loading: mmpretrain's ``TimmClassifier``, within a model, writes ``model.`` and reads without it."""
        for i, teacher in enumerate(self.teachers):
            place = f'{prefix}teachers.{i}.'
            for name in list(state_dict) if isinstance(teacher, TimmClassifier) else ():
                if name.startswith(f'{place}model.'):
                    state_dict[place + name.removeprefix(f'{place}model.')] = state_dict.pop(name)

    def forward(self, inputs: Tensor, data_samples: list[DataSample] | None = None,
                mode: str = 'tensor') -> Tensor | list[DataSample]:
        """Ask all teachers.

        Args:
            inputs: ``(B, 3, H, W)``, pixels from 0 to 255 in the order of the pipeline (BGR).
            data_samples: For ``predict``: get the mean probabilities and the first class.
            mode: ``tensor`` returns logits ``(B, C)`` float32, ``predict`` samples.

        Raises:
            UserError: The teachers' classes differ in number, or ``mode`` is ``loss``.
        """
        if mode == 'loss':
            raise UserError('EnsembleClassifier is a teacher and is not trained: train its members one by one.')
        said = []  # log(w_i softmax(z_i)), each (B, C)
        for weight, teacher in zip(self.weights, self.teachers, strict=True):
            logits = class_logits(teacher, teacher.data_preprocessor(dict(inputs=inputs), False)['inputs'])
            said.append(logits.float().log_softmax(1) + math.log(weight))
            if said[0].shape != said[-1].shape:
                raise UserError(f'The teachers of an ensemble have {said[0].shape[1]} and {said[-1].shape[1]} classes: '
                                'they need the same.')
        mean = reduce(torch.logaddexp, said)
        if mode == 'tensor':
            return mean
        samples = [DataSample() for _ in mean] if data_samples is None else data_samples
        for sample, row in zip(samples, mean.exp(), strict=True):
            sample.set_pred_score(row).set_pred_label(row.argmax())
        return samples
