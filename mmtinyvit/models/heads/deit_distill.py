"""DeiTDistillHead: a class head and a distillation head, both trained, averaged in inference."""
from collections.abc import Sequence

from mmpretrain.models.heads import DeiTClsHead
from mmpretrain.structures import DataSample
from torch import Tensor

from mmtinyvit.registry import MODELS

__all__ = ['DeiTDistillHead']


@MODELS.register_module()
class DeiTDistillHead(DeiTClsHead):
    """The two heads of DeiT (Touvron et al., ICML 2021, https://arxiv.org/abs/2012.12877).

    The class head reads the class token and learns from labels, the distillation head reads the distillation token and
    learns from the teacher. A backbone without tokens, such as TinyViT, gives one pooled feature, which both heads
    read. mmpretrain's ``DeiTClsHead``, whose parameters have the same names, cannot be trained.

    ``forward`` returns the mean of both logits, in training too; :meth:`separate` returns them one by one, for
    :class:`~mmtinyvit.models.classifiers.DeiTDistillClassifier`.

    Args:
        num_classes: C, of labels and teacher alike.
        in_channels: Width of the features.
        loss: Config of the label loss, on the class head.
        hidden_dim: Width of a hidden layer before both heads; None has none.
        init_cfg: Initialisation of MMEngine; by default the original's.
        **kwargs: Of mmpretrain's ``DeiTClsHead``.
    """

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 loss: dict | None = None,
                 hidden_dim: int | None = None,
                 init_cfg: dict | list[dict] | None = None,
                 **kwargs) -> None:
        super().__init__(
            num_classes=num_classes,
            in_channels=in_channels,
            hidden_dim=hidden_dim,
            loss=loss or dict(type='mmpretrain.CrossEntropyLoss'),
            init_cfg=init_cfg or dict(type='TruncNormal', layer='Linear', std=.02, bias=0.),
            **kwargs)
        self._register_load_state_dict_pre_hook(self._adapt)

    def pre_logits(self, feats: Sequence) -> tuple[Tensor, Tensor]:
        """What each head reads: ``(B, D)`` twice, from ``(cls_token, dist_token)`` or one pooled feature ``(B, D)``."""
        feat = feats[-1]
        pair = (feat, feat) if isinstance(feat, Tensor) else tuple(feat)[-2:]
        if self.hidden_dim is None:
            return pair
        return tuple(self.layers.act(self.layers.pre_logits(each)) for each in pair)

    def separate(self, feats: Sequence) -> tuple[Tensor, Tensor]:
        """Logits of the class head and of the distillation head, each ``(B, C)``."""
        cls_feature, dist_feature = self.pre_logits(feats)
        return self.layers.head(cls_feature), self.layers.head_dist(dist_feature)

    def forward(self, feats: Sequence) -> Tensor:
        """The mean of both logits, ``(B, C)``."""
        cls_logits, dist_logits = self.separate(feats)
        return (cls_logits + dist_logits) / 2

    def label_loss(self, cls_logits: Tensor, data_samples: list[DataSample]) -> Tensor:
        """The label loss of the class head's logits ``(B, C)``; reads ``gt_score`` where labels were mixed."""
        return self._get_loss(cls_logits, data_samples)['loss']

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
