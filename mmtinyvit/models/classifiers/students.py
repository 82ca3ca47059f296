"""Students: mmpretrain's classifiers that learn from a store, and DeiT's, whose teacher may also be beside it."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier, TimmClassifier
from mmpretrain.models.heads import DeiTClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS
from mmtinyvit.store import Record

from ..losses import teacher_class
from .teachers import FrozenTeacher

__all__ = ['DeiTDistillClassifier', 'DeiTDistillHead', 'DistillClassifier', 'DistillTimmClassifier', 'stored_record']


def stored_record(data_samples: list[DataSample], device: torch.device) -> Record:
    """What a store says about a batch: the fields that ``LoadTeacherLogits`` adds, as tensors on ``device``.

    Raises:
        UserError: A sample has no record.
    """
    if 'teacher_index' not in data_samples[0]:
        raise UserError("The samples carry no teacher's record: put mmtinyvit.LoadTeacherLogits into the training "
                        'pipeline, and mmtinyvit.PackViewInputs at its end.')
    rows = [Record(s.teacher_index, s.teacher_log_prob, s.teacher_tail_mass) for s in data_samples]
    return Record.stack(rows).to(device)


class _DistillMixin:
    """The loss against the store, for any classifier whose ``tensor`` mode returns logits ``(B, C)``."""

    def __init__(self, *args, distill: dict | None = None, label_weight: float = 0., **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not 0 <= label_weight <= 1:
            raise UserError(f'label_weight={label_weight} must lie between 0 (teacher alone) and 1 (labels alone).')
        self.distill_loss: nn.Module = MODELS.build(distill or dict(type='mmtinyvit.SparseSoftTargetLoss'))
        self.label_weight = label_weight

    reads_record = True  # of the store: a hook refuses a store that nobody reads

    @property
    def reads_labels(self) -> bool:
        """Whether a training needs labels."""
        return self.label_weight > 0

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of normalised images ``(B, 3, H, W)``, whose samples have the teacher's record.

        Returns:
            dict: ``loss_teacher``, ``loss_label`` if it has weight, and ``teacher_agreement``, the percentage of images
            whose first class is the teacher's.
        """
        logits = self(inputs, mode='tensor')  # (B, C)
        record = stored_record(data_samples, logits.device)
        losses = dict(loss_teacher=(1 - self.label_weight) * self.distill_loss(logits, record))
        if self.label_weight > 0:
            if 'gt_score' in data_samples[0]:
                target = torch.stack([sample.gt_score for sample in data_samples]).to(logits)
            else:
                target = torch.cat([sample.gt_label for sample in data_samples]).to(logits.device)
            losses['loss_label'] = self.label_weight * F.cross_entropy(logits.float(), target)
        losses['teacher_agreement'] = (logits.argmax(1) == teacher_class(record)).float().mean() * 100
        return losses


@MODELS.register_module()
class DistillClassifier(_DistillMixin, ImageClassifier):
    """``mmpretrain.ImageClassifier`` that learns from a store. Its checkpoint is a plain ``ImageClassifier``'s.

    Args:
        *args, **kwargs: Of ``ImageClassifier``.
        distill: Config of the loss; :class:`~mmtinyvit.models.losses.SparseSoftTargetLoss` by default.
        label_weight: Share of the label loss, in [0, 1]. At 0, the default, labels are not read.
    """


@MODELS.register_module()
class DistillTimmClassifier(_DistillMixin, TimmClassifier):
    """``mmpretrain.TimmClassifier`` that learns from a store. Its checkpoint is a plain ``TimmClassifier``'s.

    Args:
        *args, **kwargs: Of ``TimmClassifier``, and ``distill`` and ``label_weight`` of :class:`DistillClassifier`.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **{'loss': dict(type='mmpretrain.CrossEntropyLoss'), **kwargs})


@MODELS.register_module()
class DeiTDistillHead(DeiTClsHead):
    """The two heads of DeiT (Touvron et al., ICML 2021, https://arxiv.org/abs/2012.12877).

    The class head reads the class token and learns from labels, the distillation head reads the distillation token and
    learns from the teacher. A backbone without tokens, such as TinyViT, gives one pooled feature, which both heads
    read. mmpretrain's ``DeiTClsHead``, whose parameters have the same names, cannot be trained.

    Args:
        *args, **kwargs: Of ``DeiTClsHead``: ``num_classes`` (C, of labels and teacher alike), ``in_channels``,
            ``hidden_dim`` (width of a hidden layer before both heads; None has none) and others.
        loss: Config of the label loss, on the class head.
        init_cfg: Initialisation of MMEngine; by default the original's.
    """

    def __init__(self, *args, loss: dict | None = None, init_cfg: dict | list[dict] | None = None, **kwargs) -> None:
        loss = loss or dict(type='mmpretrain.CrossEntropyLoss')
        init_cfg = init_cfg or dict(type='TruncNormal', layer='Linear', std=.02, bias=0.)
        super().__init__(*args, loss=loss, init_cfg=init_cfg, **kwargs)
        self._register_load_state_dict_pre_hook(self._adapt)

    def pre_logits(self, feats: Sequence) -> tuple[Tensor, Tensor]:
        """What each head reads: ``(B, D)`` twice, from ``(cls_token, dist_token)`` or one pooled feature ``(B, D)``."""
        feat = feats[-1]
        return super().pre_logits(((feat, feat) if isinstance(feat, Tensor) else feat, ))

    def separate(self, feats: Sequence) -> tuple[Tensor, Tensor]:
        """Logits of the class head and of the distillation head, each ``(B, C)``."""
        cls_feature, dist_feature = self.pre_logits(feats)
        return self.layers.head(cls_feature), self.layers.head_dist(dist_feature)

    def forward(self, feats: Sequence) -> Tensor:
        """The mean of both logits, ``(B, C)``."""
        cls_logits, dist_logits = self.separate(feats)
        return (cls_logits + dist_logits) / 2

    def loss(self, feats: Sequence, data_samples: list[DataSample], **kwargs) -> dict[str, Tensor]:
        """The label loss alone, for training without a teacher: the distillation head gets no gradient."""
        return self._get_loss(self.separate(feats)[0], data_samples, **kwargs)

    def _adapt(self, state_dict: dict, prefix: str, *_) -> None:
        """Before loading: a checkpoint with one linear head, as TinyViT's, starts both heads from it."""
        for name in ('weight', 'bias'):
            value = state_dict.pop(f'{prefix}fc.{name}', None)
            if value is not None:
                state_dict.setdefault(f'{prefix}layers.head.{name}', value)
                state_dict.setdefault(f'{prefix}layers.head_dist.{name}', value.clone())


@MODELS.register_module()
class DeiTDistillClassifier(ImageClassifier):
    """``mmpretrain.ImageClassifier`` whose second head is distilled (Touvron et al., DeiT, ICML 2021).

    L = (1 - alpha) * label loss of the class head + alpha * distillation loss of the distillation head. The label loss
    gives no gradient to the distillation head, nor the distillation loss to the class head; both train the backbone.

    The checkpoint is a plain ``ImageClassifier``'s: the same backbone with ``DeiTDistillHead``, or mmpretrain's
    ``DistilledVisionTransformer`` with ``DeiTClsHead``, takes it.

    Args:
        *args, **kwargs: Of ``ImageClassifier``. The head is a :class:`DeiTDistillHead`.
        teacher: Arguments of :class:`~mmtinyvit.models.classifiers.FrozenTeacher`, or one, which is asked about the
            very batch that the student sees; None takes the records that ``LoadTeacherLogits`` reads from a store.
        distill: Config of the distillation loss; :class:`~mmtinyvit.models.losses.HardDistillationLoss` by default.
        alpha: Share of the distillation, in [0, 1]. At 0 nothing is distilled: no teacher is needed, and the
            distillation head is frozen as it is. At 1 labels are not read, and the class head is frozen.

    Raises:
        UserError: ``alpha`` or the type of the head makes no sense.
    """

    def __init__(self, *args, teacher: dict | FrozenTeacher | None = None, distill: dict | None = None,
                 alpha: float = 0.5, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not 0 <= alpha <= 1:
            raise UserError(f'alpha={alpha} of DeiTDistillClassifier must lie between 0 (labels alone) and 1 (teacher '
                            'alone).')
        if not isinstance(self.head, DeiTDistillHead):
            raise UserError(f'DeiTDistillClassifier needs two heads, and {type(self.head).__name__} has one: use '
                            "head=dict(type='mmtinyvit.DeiTDistillHead', ...).")
        self.alpha = alpha
        self.teacher = FrozenTeacher(**teacher) if isinstance(teacher, dict) else teacher
        self.distill_loss: nn.Module = MODELS.build(distill or dict(type='mmtinyvit.HardDistillationLoss'))
        if alpha == 0:  # a parameter that never gets a gradient would stop DDP
            self.head.layers.head_dist.requires_grad_(False)
        elif alpha == 1:
            self.head.layers.head.requires_grad_(False)

    @property
    def reads_record(self) -> bool:
        """Whether a training reads a store."""
        return self.alpha > 0 and self.teacher is None

    @property
    def reads_labels(self) -> bool:
        """Whether a training needs labels."""
        return self.alpha < 1

    def init_weights(self) -> None:
        """Initialise the student, and build the teacher, so that its faults show before training starts."""
        super().init_weights()
        if self.teacher is not None and self.alpha > 0:
            self.teacher.load()

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of normalised images ``(B, 3, H, W)``.

        Returns:
            dict: ``loss_label``, ``loss_distill`` (each with its share), and ``teacher_agreement``, the percentage of
            images whose first class in the distillation head is the teacher's.
        """
        cls_logits, dist_logits = self.head.separate(self.extract_feat(inputs))
        losses = {}
        if self.alpha < 1:
            losses['loss_label'] = (1 - self.alpha) * self.head._get_loss(cls_logits, data_samples)['loss']
        if self.alpha > 0:
            if self.teacher is None:
                teacher = stored_record(data_samples, inputs.device)
            elif 'teacher_index' in data_samples[0]:
                raise UserError('The samples carry a record of a store, and the model has a teacher beside it: remove '
                                'LoadTeacherLogits from the pipeline, or teacher from the model.')
            else:
                teacher = self.teacher(inputs, self.data_preprocessor)  # logits (B, C)
            losses['loss_distill'] = self.alpha * self.distill_loss(dist_logits, teacher)
            losses['teacher_agreement'] = (dist_logits.argmax(1) == teacher_class(teacher)).float().mean() * 100
        return losses
