"""TokenCacheHook: keeps what TinyMIM's teacher says on disk, after telling how much that will be."""
import hashlib
import math
import shutil
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.runner import Runner
from timm.utils import unwrap_model

from mmtinyvit.errors import UserError
from mmtinyvit.models.selfsup.tiny_mim import TinyMIM
from mmtinyvit.models.selfsup.token_teacher import TokenCache, view_bytes
from mmtinyvit.registry import HOOKS

from .epoch_clock import EpochClockHook

__all__ = ['TokenCacheHook']


@HOOKS.register_module()
class TokenCacheHook(EpochClockHook):
    """Before training: tell the size of the cache, refuse one that is too large, and hand it to the teacher.

    The teacher is then asked about each of ``num_views`` views of an image once, and its queries, keys and values, as
    float16, are read back in later epochs and later trainings. It is for small sets: a view takes 0.9 MB with ViT-B at
    224 pixels. Advances the clock too, in the place of ``EpochClockHook``.

    Args:
        path: Folder of the cache.
        num_views: Views of each image; epoch e trains on view ``e % num_views``.
        max_gb: What the cache may take, in 10**9 bytes.
    """

    def __init__(self, path: str, num_views: int, max_gb: float = 100.) -> None:
        if num_views < 1:
            raise UserError(f'num_views={num_views} of TokenCacheHook must be at least 1.')
        super().__init__(num_views)
        self.path, self.max_gb = path, max_gb

    def before_train(self, runner: Runner) -> None:
        model = unwrap_model(runner.model)
        if not isinstance(model, TinyMIM) or model.features != ('qkv', ):
            raise UserError('TokenCacheHook keeps the relations of a mmtinyvit.TinyMIM: remove it from custom_hooks, '
                            'or use RelationDistillationLoss alone.')
        dataset = runner.train_dataloader.dataset
        views = min(len(self.views), runner.max_epochs)
        shape = self._shape(runner, model)
        size = view_bytes(shape)
        total = size * len(dataset) * views
        what = (f'{size / 1e6:.2f} MB for each of {views} views of {len(dataset):,} images, {total / 1e9:.1f} GB in '
                f'{self.path}')
        if total > self.max_gb * 1e9:
            raise UserError(f"The teacher's tokens would take {what}, more than max_gb={self.max_gb:g}: choose fewer "
                            'views, raise max_gb, or ask the teacher each time (EpochClockHook).')
        folder = Path(self.path)
        present = sum(1 for _ in folder.glob('*/*.tokens')) * size
        free = shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.exists())).free
        if total - present > free:
            raise UserError(f"The teacher's tokens would take {what}, where {free / 1e9:.1f} GB are free: choose fewer "
                            'views or another path.')
        checkpoint = model.teacher.checkpoint
        if checkpoint and Path(checkpoint).is_file():
            with open(checkpoint, 'rb') as file:
                checkpoint = hashlib.file_digest(file, 'sha256').hexdigest()
        model.teacher.cache = TokenCache(folder, dict(teacher=checkpoint, block=model.teacher.block,
                                                      masked=model.masked, shape=shape))
        if is_main_process():
            runner.logger.info(f"The teacher's tokens take {what}; {present / 1e9:.1f} GB are there.")

    def _shape(self, runner: Runner, model: TinyMIM) -> tuple[int, int, int, int]:
        """``(3, H, N, d)`` of the teacher's tokens, from one sample."""
        self.before_train_epoch(runner)  # the sample needs a view
        sample = runner.train_dataloader.dataset[0]
        image = sample['inputs'][0] if isinstance(sample['inputs'], list) else sample['inputs']
        vit = model.teacher.load()
        patches = math.prod(side // patch for side, patch in zip(image.shape[-2:], vit.patch_embed.projection.stride,
                                                                 strict=True))
        if model.masked:
            patches = int((sample['data_samples'].mask == 0).sum())
        heads = vit.layers[model.teacher.block - 1].attn.num_heads
        return 3, heads, vit.num_extra_tokens + patches, vit.embed_dims // heads
