"""Networks of a few thousand parameters, for the tests of TinyMIM."""
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope


def vit_config(dims: int = 16, layers: int = 3, heads: int = 2, last_heads: int | None = None, size: int = 32,
               kind: str = 'VisionTransformer', **more) -> dict:
    """Patches of 8 pixels; the last block may have other heads."""
    layer_cfgs = [*[dict(num_heads=heads)] * (layers - 1), dict(num_heads=last_heads or heads)]
    arch = dict(embed_dims=dims, num_layers=layers, num_heads=heads, feedforward_channels=2 * dims)
    return dict(type=f'mmpretrain.{kind}', arch=arch, img_size=size, patch_size=8, layer_cfgs=layer_cfgs) | more


def tiny_vit_config(**more) -> dict:
    """A TinyViT whose stage 3 has 12 x 2 channels."""
    arch = dict(embed_dims=(8, 8, 24, 16), depths=(1, 1, 2, 1), num_heads=(1, 1, 3, 2), window_sizes=(7, 4, 4, 4))
    return dict(type='mmtinyvit.TinyViT', arch=arch) | more


def build(config: dict) -> torch.nn.Module:
    """The network, with weights unlike zero everywhere."""
    init_default_scope('mmpretrain')
    model = MODELS.build(config)
    model.init_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def gradients(model: torch.nn.Module) -> dict[str, bool]:
    """By name, whether a parameter got a gradient."""
    return {name: p.grad is not None for name, p in model.named_parameters()}


def shrink_tinymim(cfg: Config, work_dir: Path) -> None:
    """Make a recipe of ``configs/tinymim/`` small, in place: images of 32 pixels, narrow networks as deep as before.

    The teacher is 96 wide and gets a file of random weights, the student is 48 wide: both can be cut into 12 and 16.
    """
    if cfg.model.type == 'mmtinyvit.TinyMIM':
        _narrow(cfg.model.teacher.backbone, 96)
        torch.manual_seed(0)
        cfg.model.teacher.checkpoint = str(work_dir / 'teacher.pth')
        torch.save(MODELS.build(cfg.model.teacher.backbone).state_dict(), cfg.model.teacher.checkpoint)
        for loss in cfg.model.get('losses', []):
            if 'student_dims' in loss:
                loss.update(student_dims=loss.student_dims * 48 // 192, teacher_dims=loss.teacher_dims * 96 // 768)
    if cfg.model.backbone.type == 'mmtinyvit.TinyViT':
        cfg.model.backbone.arch = dict(embed_dims=(16, 16, 48, 48), depths=(1, 1, 2, 1), num_heads=(1, 1, 3, 3),
                                       window_sizes=(7, 4, 4, 4))
    else:
        _narrow(cfg.model.backbone, 48)
    if 'head' in cfg.model:
        cfg.model.head.in_channels = 48
    for transform in cfg.train_dataloader.dataset.pipeline[1].transforms:
        if transform.type == 'SimMIMMaskGenerator':
            transform.update(input_size=32, mask_ratio=0.5)


def _narrow(vit: ConfigDict, dims: int) -> None:
    heads, layers = (16, 24) if vit.arch == 'large' else ({'deit-tiny': 3, 'deit-small': 6}.get(vit.arch, 12), 12)
    vit.update(img_size=32, arch=dict(embed_dims=dims, num_layers=layers, num_heads=heads,
                                      feedforward_channels=2 * dims))
