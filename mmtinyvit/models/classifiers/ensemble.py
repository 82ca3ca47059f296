"""Several classifiers as one teacher: the weighted mean of their probabilities."""
import math
from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS
from mmtinyvit.store.record import check_weights

from .frozen_teacher import build_teacher

__all__ = ['EnsembleClassifier']


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
        UserError: There is no teacher, a checkpoint does not fill its teacher, or the weights do not fit.
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
            self.teachers.append(build_teacher(own, config.get('checkpoint')))

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
        mean = None
        for weight, teacher in zip(self.weights, self.teachers, strict=True):
            own = teacher.data_preprocessor(dict(inputs=inputs), False)['inputs']
            logits = teacher(own.contiguous(memory_format=torch.channels_last), mode='tensor')  # (B, C)
            said = logits.float().log_softmax(1) + math.log(weight)
            if mean is not None and mean.shape != said.shape:
                raise UserError(f'The teachers of an ensemble have {mean.shape[1]} and {said.shape[1]} classes: they '
                                'need the same.')
            mean = said if mean is None else torch.logaddexp(mean, said)
        if mode == 'tensor':
            return mean
        samples = [DataSample() for _ in mean] if data_samples is None else data_samples
        for sample, row in zip(samples, mean.exp(), strict=True):
            sample.set_pred_score(row).set_pred_label(row.argmax())
        return samples
