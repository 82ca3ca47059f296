"""TinyMIM: a small network learns how the tokens of a masked-image-modelling teacher relate to one another.

Ren et al., "TinyMIM: An Empirical Study of Distilling MIM Pre-trained Models", CVPR 2023,
https://arxiv.org/abs/2301.01296. Written from the paper; the released code (https://github.com/OliverRensu/TinyMIM)
has no licence.
"""
from collections.abc import Sequence

import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor, MAEViT
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from ..backbones.tiny_vit import TinyViT
from . import taps
from .token_teacher import TokenTeacher

__all__ = ['TinyMIM']


@MODELS.register_module()
class TinyMIM(BaseSelfSupervisor):
    """Pretraining by distillation from a vision transformer, with no labels.

    The teacher is a :class:`TokenTeacher`, outside the module tree. Parameters of the student that the losses do not
    reach are frozen, so that DDP does not wait for them; for relations at the last block of a vision transformer these
    are ten tensors. They stay in the checkpoint as they were initialised, as in the original.

    Args:
        backbone: The student: a mmpretrain ``VisionTransformer`` or ``MAEViT``, whose tapped block has as many heads as
            the teacher's (``layer_cfgs``), or a ``mmtinyvit.TinyViT``.
        teacher: Arguments of :class:`TokenTeacher`.
        losses: Configs of the losses; relations QK and VV by default.
        block: The student's block to tap, from 1; the last by default. Not for TinyViT.
        stages: The stages of a TinyViT to tap, from 1; (3, 4) by default. See
            :mod:`~mmtinyvit.models.selfsup.taps` for how its relations are defined.
        masked: Show both networks the visible patches alone, as the samples' ``mask`` says.
        data_preprocessor: ``mmpretrain.SelfSupDataPreprocessor`` by default.
        init_cfg: Initialisation of MMEngine.

    Raises:
        UserError: The student cannot be tapped as asked for.
    """

    def __init__(self,
                 backbone: dict | nn.Module,
                 teacher: dict,
                 losses: Sequence[dict] = (dict(type='mmtinyvit.RelationDistillationLoss'), ),
                 block: int | None = None,
                 stages: Sequence[int] | None = None,
                 masked: bool = False,
                 data_preprocessor: dict | nn.Module | None = None,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(backbone, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.losses = nn.ModuleList(MODELS.build(loss) for loss in losses)
        self.features = tuple(dict.fromkeys(loss.feature for loss in self.losses))
        self.masked = masked
        if not self.features:
            raise UserError('TinyMIM needs at least one loss.')
        if isinstance(self.backbone, TinyViT):
            self.stages = tuple(stages or range(3, len(self.backbone.stages) + 1))
            self._check_grid(block)
            idle = taps.idle_parameters_of_stages(self.backbone, self.stages)
        else:
            if stages is not None:
                raise UserError(f'stages={tuple(stages)} of TinyMIM is for a mmtinyvit.TinyViT: name the block of a '
                                'vision transformer with block=.')
            self.stages = None
            self.block = block or getattr(self.backbone, 'num_layers', 0)
            taps.check_vit(self.backbone, self.block, 'student')
            idle = taps.idle_parameters(self.backbone, self.block, self.features)
        for parameter in idle:
            parameter.requires_grad_(False)
        self.teacher = TokenTeacher(**teacher, features=self.features)

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The student's own output for images ``(B, 3, H, W)``, nothing masked."""
        return self.backbone(inputs, mask=None) if isinstance(self.backbone, MAEViT) else self.backbone(inputs)

    def _check_grid(self, block: int | None) -> None:
        if block is not None:
            raise UserError(f'block={block} of TinyMIM is for a vision transformer: name the stages of a TinyViT with '
                            'stages=.')
        taps.check_stages(self.backbone, self.stages)
        if self.features != ('qkv', ) or not all(hasattr(loss, 'relations') for loss in self.losses):
            raise UserError('A TinyViT has no class token and no features on the grid of the teacher: give TinyMIM '
                            'mmtinyvit.RelationDistillationLoss alone.')
        if self.masked:
            raise UserError('A TinyViT cannot leave out patches: use masked=False.')

    def loss(self, inputs: Tensor | list[Tensor], data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            inputs: The teacher's view and the student's, each ``(B, 3, H, W)`` and normalised; or one for both.
            data_samples: One per image, with a ``mask`` ``(h, w)`` of hidden patches if ``masked``.

        Returns:
            dict: ``loss_qk``, ``loss_vv``, ``loss_cls``, ``loss_feature``, as the losses are; for a TinyViT with the
            stage behind it, ``loss_qk_stage3``.
        """
        views = [inputs, inputs] if isinstance(inputs, Tensor) else inputs
        if len(views) != 2:
            raise UserError(f"TinyMIM takes the teacher's view and the student's, and got {len(views)} views: use "
                            'MultiView(num_views=[1, 1], transforms=[[], [...]]).')
        teacher_view, student_view = views
        visible = None
        if self.masked:
            if 'mask' not in data_samples[0]:
                raise UserError('masked=True of TinyMIM needs a mask with every sample: put SimMIMMaskGenerator into '
                                'the transforms of SeededAugment.')
            masks = torch.stack([sample.mask for sample in data_samples])
            visible = taps.visible_patches(masks.to(student_view.device))
        seeds = [sample.get('aug_seed') for sample in data_samples] if self.teacher.cache else None
        teacher_tokens, teacher_grid = self.teacher(teacher_view, visible, seeds)
        if self.stages:
            pairs = [(f'_stage{stage}', loss, *taps.relate_on_grid(qkv, teacher_tokens['qkv'], teacher_grid))
                     for stage, qkv in taps.tap_stages(self.backbone, student_view, self.stages).items()
                     for loss in self.losses]
        else:
            student_tokens, _ = taps.tap_vit(self.backbone, student_view, self.block, self.features, visible)
            pairs = [('', loss, student_tokens[loss.feature], teacher_tokens[loss.feature]) for loss in self.losses]
        losses: dict[str, Tensor] = {}
        for where, loss, own, wanted in pairs:
            for name, value in loss(own, wanted).items():
                name = f'loss_{name}{where}'
                losses[name] = losses[name] + value if name in losses else value
        return losses
