"""TokenTeacher: a vision transformer that says what its tokens are like, and is never trained."""
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from ..classifiers.frozen_teacher import FrozenTeacher
from ..weights import read_state_dict
from .token_cache import TokenCache
from .vit_keys import convert_vit_state_dict
from .vit_tap import check_vit, tap_vit

__all__ = ['TokenTeacher']


class TokenTeacher(FrozenTeacher):
    """A :class:`FrozenTeacher` that is a backbone, and is asked for the tokens of one of its blocks.

    Like its base, it is outside the module tree of whoever holds it: not in a state dict, an optimiser, DDP or a copy.
    Only the blocks that are asked for are kept.

    Args:
        backbone: Config of a mmpretrain ``VisionTransformer`` or ``MAEViT``, or a built one.
        checkpoint: File or URL with its weights, under the names of MAE, timm or mmpretrain. May be left out only for
            a built one.
        block: The block to look into, from 1.
        features: What of it, some of :data:`~mmtinyvit.models.losses.feature_distillation.FEATURES`.
    """

    def __init__(self, backbone: dict | nn.Module, checkpoint: str | None = None, block: int = -1,
                 features: Collection[str] = ('qkv', )) -> None:
        super().__init__(backbone, checkpoint)
        self.block = block
        self.features = tuple(features)
        self.cache: TokenCache | None = None  # TokenCacheHook sets it

    @torch.no_grad()
    def __call__(self, images: Tensor, visible: Tensor | None = None,
                 seeds: Sequence[int] | None = None) -> tuple[dict[str, Tensor], tuple[int, int]]:
        """Ask about a batch.

        Args:
            images: ``(B, 3, H, W)``, normalised.
            visible: Numbers of the patches to look at, ``(B, n)``; all by default.
            seeds: Seeds of the views, for the cache, if there is one.

        Returns:
            tuple: The tokens as from :func:`~mmtinyvit.models.selfsup.vit_tap.tap_vit`, without gradient, and the rows
            and columns of the image in patches. With a cache they are float16, also those that are asked for anew.
        """
        vit = self.load()
        if self._device != images.device:
            self._device, self._model = images.device, vit.to(images.device)
        if self.cache is None:
            return tap_vit(vit, images, self.block, self.features, visible)
        pixels = torch.stack([images.mean((1, 2, 3)), images.std((1, 2, 3))], 1)  # (B, 2)
        views = self.cache.read(seeds, pixels)
        absent = [i for i, view in enumerate(views) if view is None]
        if absent:
            asked = tap_vit(vit, images[absent], self.block, self.features,
                            None if visible is None else visible[absent])[0]['qkv'].half()
            self.cache.write([seeds[i] for i in absent], pixels[absent], asked)
            for i, view in zip(absent, asked.unbind(1), strict=True):
                views[i] = view
        qkv = torch.stack([view.to(images.device, non_blocking=True) for view in views], 1)
        return dict(qkv=qkv), self.grid(images)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of ``images`` ``(B, 3, H, W)`` in patches."""
        height, width = self.load().patch_embed.projection.stride
        return images.shape[2] // height, images.shape[3] // width

    def load(self) -> nn.Module:
        """The network up to the target block, built and filled at the first call.

        Raises:
            UserError: There are no weights, or they are another network's, or there is no such block.
        """
        if self._model is None:
            vit = super().load()
            self.block = self.block if self.block > 0 else vit.num_layers
            check_vit(vit, self.block, 'teacher')
            if 'final' not in self.features and not isinstance(self.config, nn.Module):
                del vit.layers[self.block:]
        return super().load()

    def _build(self, config: dict) -> nn.Module:
        if not self.checkpoint:
            raise UserError(f'The teacher {config.get("type")} has no weights: give teacher=dict(backbone=..., '
                            'checkpoint=FILE).')
        vit = MODELS.build(config)
        try:
            found = vit.load_state_dict(convert_vit_state_dict(read_state_dict(self.checkpoint)), strict=False)
        except RuntimeError as error:  # another width
            raise self._unfit(config, ' '.join(str(error).split())[:240]) from error
        # MAE and TinyMIM leave out norms that only a finetuned network has, and the other way round
        norms = ('ln2', ) if 'final' in self.features else ('ln1', 'ln2')
        wrong = [f'{key} is {what}' for what, keys in (('missing', found.missing_keys), ('left over',
                 found.unexpected_keys)) for key in keys if not key.startswith(norms)]
        if wrong:
            raise self._unfit(config, wrong[0])
        return vit

    def _unfit(self, config: dict, reason: str) -> UserError:
        return UserError(f'The checkpoint {self.checkpoint} does not fill the teacher {config.get("type")} ({reason}): '
                         'give the one of its arch.')
