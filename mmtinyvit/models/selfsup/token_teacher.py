"""TokenTeacher: a vision transformer that is asked for the tokens of a block, and may keep them on disk.

A file of the cache holds 24 bytes, the magic ``MTVTOKEN``, the CRC-32 of what follows as a little-endian u4, the mean
and standard deviation of the pixels as two f4, and 4 bytes of zeros; then float16 ``(3, H, N, d)`` in C order. Its name
is the view's seed in hexadecimal. ``tokens.json`` beside the files says whose tokens they are. Any number of processes
may read and write: a file appears whole, and two that write the same one write the same bytes.
"""
import json
import os
import struct
import zlib
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import MODELS

from ..classifiers.teachers import FrozenTeacher
from ..weights import fill_vit
from .taps import check_vit, tap_vit

__all__ = ['TokenCache', 'TokenTeacher', 'view_bytes']

MAGIC = b'MTVTOKEN'
HEADER = struct.Struct('<8sIff4x')
MANIFEST = 'tokens.json'
READERS = 8  # threads: reading waits for the disk, not for Python
ALIKE = 1e-3  # of a standard deviation; rounding differs by device


def view_bytes(shape: Sequence[int]) -> int:
    """Bytes on disk of one view's tokens ``(3, H, N, d)``."""
    return HEADER.size + 2 * int(np.prod(shape))


class TokenCache:
    """The tokens of many views.

    Args:
        root: The folder; made if it is not there.
        identity: Whose tokens these are: the teacher's checkpoint and block, and their ``shape`` ``(3, H, N, d)``.

    Raises:
        UserError: The folder holds the tokens of somebody else, or cannot be written.
    """

    def __init__(self, root: str | Path, identity: dict) -> None:
        self.root, self.shape = Path(root), tuple(identity['shape'])
        identity = identity | dict(format=1, shape=list(self.shape))
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not (self.root / MANIFEST).is_file():
                self._write(self.root / MANIFEST, json.dumps(identity, indent=2).encode() + b'\n')
            found = json.loads((self.root / MANIFEST).read_text())
        except (OSError, ValueError) as error:
            raise UserError(f'The token cache {self.root} cannot be used ({error}): choose another path.') from error
        for name in identity:
            if found.get(name) != identity[name]:
                raise UserError(f'The token cache {self.root} has {name} {found.get(name)}, and this training '
                                f'{identity[name]}: choose another path, or remove that folder.')
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix='tokens')

    def read(self, seeds: Sequence[int], pixels: Tensor) -> list[Tensor | None]:
        """The tokens of the views with some ``aug_seed`` and ``pixels`` of some mean and deviation now, ``(B, 2)``.

        Returns:
            list: For each ``(3, H, N, d)`` float16 on the host, or None if it is not there or damaged.

        Raises:
            UserError: One was made from other pixels.
        """
        return list(self._readers.map(self._read, seeds, pixels.cpu().tolist()))

    def write(self, seeds: Sequence[int], pixels: Tensor, tokens: Tensor) -> None:
        """Keep the tokens ``(3, B, H, N, d)`` of some views, or raise :class:`UserError` if the disk is full."""
        parts = tokens.transpose(0, 1).cpu().half().contiguous().numpy()
        try:
            for seed, (mean, std), part in zip(seeds, pixels.cpu().tolist(), parts, strict=True):
                payload = part.tobytes()
                self._write(self._path(seed), HEADER.pack(MAGIC, zlib.crc32(payload), mean, std) + payload)
        except OSError as error:
            raise UserError(f'The token cache {self.root} cannot be written ({error.strerror}): make room, or train '
                            'without it.') from error

    def _read(self, seed: int, pixels: Sequence[float]) -> Tensor | None:
        try:
            content = self._path(seed).read_bytes()
        except FileNotFoundError:
            return None
        if len(content) != view_bytes(self.shape):
            return None
        magic, checksum, mean, std = HEADER.unpack_from(content)
        payload = memoryview(content)[HEADER.size:]
        if magic != MAGIC or zlib.crc32(payload) != checksum:
            return None
        if max(abs(mean - pixels[0]), abs(std - pixels[1])) > ALIKE:
            raise UserError(f'The token cache {self.root} was made from other pixels (mean {mean:.4f} and deviation '
                            f'{std:.4f}, now {pixels[0]:.4f} and {pixels[1]:.4f}): the images or their transforms '
                            'have changed, so choose another path.')
        return torch.from_numpy(np.frombuffer(payload, np.float16).reshape(self.shape).copy())

    def _path(self, seed: int) -> Path:
        return self.root / f'{seed & 0xff:02x}' / f'{seed:016x}.tokens'

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        """Not flushed to the disk: what a power cut tears, its checksum tells, and it is computed again."""
        temporary = path.with_name(f'.{path.name}.{os.getpid()}')
        path.parent.mkdir(exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


class TokenTeacher(FrozenTeacher):
    """A :class:`FrozenTeacher` that is a backbone up to one of its blocks, and is asked for the tokens of that block.

    Args:
        backbone: Config of a mmpretrain ``VisionTransformer`` or ``MAEViT``, or a built one.
        checkpoint: File or URL with its weights, under the names of MAE, timm or mmpretrain. May be left out only for
            a built one.
        block: The block to look into, from 1; the last by default.
        features: What of it, some of :data:`~mmtinyvit.models.losses.tinymim.FEATURES`.
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
        """What :func:`~mmtinyvit.models.selfsup.taps.tap_vit` gives for a batch, without gradient.

        With a cache, for which the ``seeds`` of the views are needed, the tokens are float16, also those that are asked
        for anew.
        """
        vit = self.load().to(images.device)
        if self.cache is None:
            return tap_vit(vit, images, self.block, self.features, visible)
        pixels = torch.stack([images.mean((1, 2, 3)), images.std((1, 2, 3))], 1)  # (B, 2)
        views = self.cache.read(seeds, pixels)
        absent = [i for i, view in enumerate(views) if view is None]
        if absent:
            new_tokens = tap_vit(vit, images[absent], self.block, self.features,
                                 None if visible is None else visible[absent])[0]['qkv'].half()
            self.cache.write([seeds[i] for i in absent], pixels[absent], new_tokens)
            for i, view in zip(absent, new_tokens.unbind(1), strict=True):
                views[i] = view
        qkv = torch.stack([view.to(images.device, non_blocking=True) for view in views], 1)
        height, width = vit.patch_embed.projection.stride
        return dict(qkv=qkv), (images.shape[2] // height, images.shape[3] // width)

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
        # MAE and TinyMIM leave out norms that only a finetuned network has, and the other way round
        norms = ('ln2.', ) if 'final' in self.features else ('ln1.', 'ln2.')
        fill_vit(vit, self.checkpoint, norms, fresh=norms)
        return vit
