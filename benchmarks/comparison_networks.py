"""The networks on the comparison page: those of this library, and their neighbours in timm and mmpretrain."""
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import timm
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmpretrain import get_model
from mmpretrain.apis.model import ModelHub
from torch import nn

__all__ = ['FAMILIES', 'Network']

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # for projects/


class Network(NamedTuple):
    """A classifier of 1,000 classes.

    Attributes:
        name: How its library calls it.
        library: ``'mmtinyvit'``, ``'timm'`` or ``'mmpretrain'``.
        build: Builds it with random weights.
        side: Side of its images in pixels.
        top1: Published top-1 on ImageNet-1K in percent, if known to this library or to mmpretrain's metafiles.
    """
    name: str
    library: str
    build: Callable[[], nn.Module]
    side: int = 224
    top1: float | None = None


def ours(path: str, name: str, top1: float, side: int = 224) -> Network:
    """That of a config; ``top1`` is the paper's."""

    def build() -> nn.Module:
        cfg = Config.fromfile(ROOT / f'{path}.py')
        init_default_scope('mmpretrain')
        model = cfg.model.to_dict()
        model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
        return MODELS.build(model)

    return Network(name, 'mmtinyvit', build, side, top1)


def of_timm(*names: str, side: int = 224) -> list[Network]:
    return [Network(name, 'timm', lambda name=name: timm.create_model(name, num_classes=1000), side) for name in names]


def of_mmpretrain(*names: str, side: int = 224) -> list[Network]:
    """Their published accuracies come from mmpretrain's metafiles."""

    def top1(name: str) -> float:
        return ModelHub.get(name).results[0].metrics['Top 1 Accuracy']

    return [Network(name, 'mmpretrain', lambda name=name: get_model(name, pretrained=False), side, top1(name))
            for name in names]


TOPFORMER, MOBILE_FORMER = 'projects/topformer/configs/topformer', 'projects/mobile_former/configs/mobile_former'
FAMILIES = {
    'TinyViT': [
        ours('configs/tinyvit/tiny_vit_5m_in1k', 'TinyViT-5M', 80.7),
        ours('configs/tinyvit/tiny_vit_11m_in1k', 'TinyViT-11M', 83.2),
        ours('configs/tinyvit/tiny_vit_21m_in1k', 'TinyViT-21M', 84.8),
        *of_timm('tiny_vit_5m_224', 'tiny_vit_11m_224', 'tiny_vit_21m_224'),
        *of_mmpretrain(*(f'tinyvit-{size}_in21k-distill-pre_3rdparty_in1k' for size in ('5m', '11m', '21m'))),
    ],
    'TinyViT at higher resolution': [
        ours('configs/tinyvit/tiny_vit_21m_finetune_in1k_384', 'TinyViT-21M, 384', 86.2, 384),
        ours('configs/tinyvit/tiny_vit_21m_finetune_in1k_512', 'TinyViT-21M, 512', 86.5, 512),
        *of_timm('tiny_vit_21m_384', side=384),
        *of_timm('tiny_vit_21m_512', side=512),
    ],
    'DeiT': [
        ours('configs/deit/deit_tiny_distilled_in1k_store', 'DeiT-Ti, distilled', 74.5),
        ours('configs/deit/deit_small_distilled_in1k_store', 'DeiT-S, distilled', 81.2),
        *of_timm('deit_tiny_distilled_patch16_224', 'deit_small_distilled_patch16_224'),
        *of_mmpretrain('deit-tiny-distilled_3rdparty_in1k', 'deit-small-distilled_3rdparty_in1k'),
    ],
    'TopFormer': [
        ours(f'{TOPFORMER}_{size}_in1k', f'TopFormer-{size[0].upper()}', top1)
        for size, top1 in (('tiny', 66.2), ('small', 72.3), ('base', 75.3))
    ],
    'Mobile-Former': [
        ours(f'{MOBILE_FORMER}_{size}_in1k', f'Mobile-Former-{size.upper()}', top1)
        for size, top1 in (('508m', 79.3), ('294m', 77.9), ('214m', 76.7), ('151m', 75.2), ('96m', 72.8),
                           ('52m', 68.7), ('26m', 64.0))
    ],
    'MobileViT': [
        *(ours(f'projects/mobilevit/configs/mobilevit_{size}_in1k', f'MobileViT-{size.upper()}', top1, 256)
          for size, top1 in (('s', 78.3), ('xs', 74.7), ('xxs', 69.0))),
        *of_timm('mobilevit_s', 'mobilevit_xs', 'mobilevit_xxs', side=256),
        *of_mmpretrain(*(f'mobilevit-{size}_3rdparty_in1k' for size in ('small', 'xsmall', 'xxsmall')), side=256),
    ],
    'Others of their size': [
        *of_timm('mobilenetv3_large_100', 'efficientnet_b0', 'levit_192', 'edgenext_small', 'efficientformerv2_s1',
                 'fastvit_t8', 'repvit_m1_0'),
        *of_mmpretrain('mobilenet-v3-large_8xb128_in1k', 'efficientnet-b0_3rdparty_8xb32_in1k',
                       'levit-192_3rdparty_in1k', 'edgenext-small_3rdparty_in1k',
                       'efficientformer-l1_3rdparty_8xb128_in1k'),
    ],
}
