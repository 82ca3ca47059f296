"""Students: TinyViT in small sizes, the networks of projects/, and timm's."""
from typing import Any

__all__ = ['FAMILY', 'TIMM', 'TINY_VIT', 'network']

GAP = dict(type='GlobalAveragePooling')
TINY_VIT = {
    'tiny': dict(embed_dims=[8, 16, 16, 16], depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_sizes=[7, 4, 4, 2]),
    '0.08 M': dict(embed_dims=[8, 16, 32, 56], depths=[1, 1, 2, 1], num_heads=[1, 1, 2, 2], window_sizes=[7, 4, 4, 2]),
    '0.26 M': dict(embed_dims=[16, 32, 64, 96], depths=[1, 1, 2, 1], num_heads=[1, 1, 2, 3],
                   window_sizes=[7, 4, 4, 2]),
    '0.86 M': dict(embed_dims=[32, 64, 128, 160], depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 5],
                   window_sizes=[7, 4, 4, 2]),
}
FAMILY = {
    'TopFormer-T': dict(
        module='projects.topformer.topformer', width=208,
        backbone=dict(type='mmtinyvit.TopFormer', arch='tiny', pool_stride=1, inject=False),
        neck=[GAP, dict(type='ClsBatchNormNeck', input_features=208, affine=True, eps=1e-5)]),
    'Mobile-Former-26M': dict(
        module='projects.mobile_former.mobile_former', width=96,
        backbone=dict(type='mmtinyvit.MobileFormer', arch='26m'),
        head=dict(type='mmtinyvit.MobileFormerClsHead', token_dims=128, hidden_channels=256)),
    'MobileViT-XXS': dict(
        module='projects.mobilevit.mobilevit', width=320,
        backbone=dict(type='mmtinyvit.MobileViT', arch='xx_small'), neck=GAP),
}
TIMM = {'MobileNetV3-Small 0.5 of timm': 'mobilenetv3_small_050', 'EdgeNeXt-XXS of timm': 'edgenext_xx_small'}


def network(name: str, num_classes: int, frozen: bool = False) -> dict[str, Any]:
    """A plain classifier's config.

    Args:
        name: Of :data:`TINY_VIT`, :data:`FAMILY` or :data:`TIMM`.
        num_classes: Of its head.
        frozen: Train the head alone; of TinyViT.
    """
    if name in TIMM:
        return dict(type='TimmClassifier', model_name=TIMM[name], num_classes=num_classes, pretrained=False,
                    loss=dict(type='CrossEntropyLoss'))
    if name in FAMILY:
        found = FAMILY[name]
        head = dict(type='LinearClsHead', num_classes=num_classes, in_channels=found['width'])
        neck = dict(neck=found['neck']) if 'neck' in found else {}
        return dict(type='ImageClassifier', backbone=found['backbone'], head=head | found.get('head', {}), **neck)
    arch = TINY_VIT[name]
    backbone = dict(type='mmtinyvit.TinyViT', arch=arch) | (dict(frozen_stages=4) if frozen else {})
    return dict(type='ImageClassifier', backbone=backbone, head=dict(
        type='LinearClsHead', num_classes=num_classes, in_channels=arch['embed_dims'][-1]))
