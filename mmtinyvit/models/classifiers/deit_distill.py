"""DeiT's distillation: one head learns from labels, the other from a teacher beside the student or from a store."""
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from ..heads import DeiTDistillHead
from ..losses.teacher_record import TeacherRecord, teacher_class
from .distill import stack_teacher
from .frozen_teacher import FrozenTeacher

__all__ = ['DeiTDistillClassifier']


@MODELS.register_module()
class DeiTDistillClassifier(ImageClassifier):
    """``mmpretrain.ImageClassifier`` whose second head is distilled (Touvron et al., DeiT, ICML 2021).

    L = (1 - alpha) * label loss of the class head + alpha * distillation loss of the distillation head. The label loss
    gives no gradient to the distillation head, nor the distillation loss to the class head; both train the backbone.

    Without ``teacher``, the targets are the records that ``LoadTeacherLogits`` reads from a store. With one, it is
    asked about the very batch that the student sees, mixed images included.

    The checkpoint is a plain ``ImageClassifier``'s: the same backbone with ``DeiTDistillHead``, or mmpretrain's
    ``DistilledVisionTransformer`` with ``DeiTClsHead``, takes it.

    Args:
        *args: Of ``ImageClassifier``. The head is a :class:`~mmtinyvit.models.heads.DeiTDistillHead`.
        teacher: Arguments of :class:`~mmtinyvit.models.classifiers.FrozenTeacher`, or one; None reads a store.
        distill: Config of the distillation loss; :class:`~mmtinyvit.models.losses.HardDistillationLoss` by default.
        alpha: Share of the distillation, in [0, 1]. At 0 nothing is distilled: no teacher is needed, and the
            distillation head is frozen as it is. At 1 labels are not read, and the class head is frozen.
        **kwargs: Of ``ImageClassifier``.

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

    def init_weights(self) -> None:
        """Initialise the student, and build the teacher, so that its faults show before training starts."""
        super().init_weights()
        if self.teacher is not None and self.alpha > 0:
            self.teacher.load()

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            inputs: ``(B, 3, H, W)``, normalised.
            data_samples: One per image, with labels if ``alpha`` is below 1, and with the teacher's record if ``alpha``
                is above 0 and there is no ``teacher``.

        Returns:
            dict: ``loss_label``, ``loss_distill`` (each with its share), and ``teacher_agreement``, the percentage of
            images whose first class in the distillation head is the teacher's.
        """
        cls_logits, dist_logits = self.head.separate(self.extract_feat(inputs))
        losses = {}
        if self.alpha < 1:
            losses['loss_label'] = (1 - self.alpha) * self.head.label_loss(cls_logits, data_samples)
        if self.alpha > 0:
            teacher = self.ask_teacher(inputs, data_samples)
            losses['loss_distill'] = self.alpha * self.distill_loss(dist_logits, teacher)
            losses['teacher_agreement'] = (dist_logits.argmax(1) == teacher_class(teacher)).float().mean() * 100
        return losses

    def ask_teacher(self, inputs: Tensor, data_samples: list[DataSample]) -> Tensor | TeacherRecord:
        """The teacher's logits ``(B, C)`` for the batch, or its stored record."""
        if self.teacher is None:
            return stack_teacher(data_samples, inputs.device)
        if 'teacher_index' in data_samples[0]:
            raise UserError('The samples carry a record of a store, and the model has a teacher beside it: remove '
                            'LoadTeacherLogits from the pipeline, or teacher from the model.')
        return self.teacher(inputs, self.data_preprocessor)
