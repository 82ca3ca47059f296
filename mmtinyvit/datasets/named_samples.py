"""NamedSamples: what the datasets here have in common. Samples have names and never stand in for each other."""
import os
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import PurePath

import numpy as np
from mmengine.logging import print_log

from ..errors import UserError
from ..store.keys import key_hash
from .map_label import MapLabel
from .view_dataset import load_batch, load_sample
from .views import iter_transforms

__all__ = ['NamedSamples', 'note_order_of_numbers', 'require_folder']


def require_folder(path: str, source: str) -> None:
    """Raise :class:`UserError`, which ends in ``source``, if the local folder ``path`` is missing or not named."""
    if not path:
        raise UserError('The dataset names no folder of images: set its data_root.')
    if '://' not in path and not os.path.isdir(path):
        advice = source or 'change data_root in the config.'
        raise UserError(f'The image folder {os.path.normpath(path)} does not exist: {advice}')


def note_order_of_numbers(classes: Sequence[str], place: str) -> None:
    """Say so if classes are called by numbers and are in the order of text, in which 10 comes before 2.

    Comparisons by name do not care. Whoever gives classes by number would be wrong by a few labels.
    """
    if not all(map(str.isdecimal, classes)) or [*classes] != sorted(classes) or [*classes] == sorted(classes, key=int):
        return
    wrong = [f'{name} is label {label}' for label, name in enumerate(classes) if int(name) != label]
    print_log(f'The classes of {place} are called by numbers, and numbered in the order of text: '
              f'{", ".join(wrong[:3])}{", ..." * (len(wrong) > 3)}. Give classes by number (MapLabel, MappedAccuracy, '
              '--label-index, a teacher without class names) in this order; metainfo=dict(classes=[...]) of '
              'mmtinyvit.ImageFolder, or --classes of the image index, sets another.', 'current')


def _listed(path: str) -> np.ndarray:
    """``(n,)`` uint64, the names of the samples that a list of keys has; 14 million keys do not belong in memory.

    Two of so many keys share a name once in a hundred thousand lists, and then one sample too many is kept.
    """
    try:
        with open(path, encoding='utf-8-sig') as file:
            return np.fromiter((key_hash(line.rstrip('\n')) for line in file), np.uint64)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}, the list of samples to keep, cannot be read '
                        f'({getattr(error, "strerror", None) or "it is no text"}): correct keep=, or write it with '
                        '"mmtinyvit store clean".') from error


class NamedSamples:
    """Mixin that comes before a ``BaseDataset``.

    ``BaseDataset`` draws another sample when a pipeline returns None, so that a stored target would be applied to the
    wrong image. Here that is an error which names the sample. Every sample carries its identity:

    Added keys: ``sample_key``, the path below ``img_prefix`` with forward slashes.

    Args:
        *args, **kwargs: Of the dataset.
        keep: Text file with the keys of the samples to keep, one a line, as ``mmtinyvit store clean`` writes it. The
            others are left out, and keys that are not in the dataset play no role.
        share: Keep this share of the samples, more than 0 and at most 1, and at least one of them, drawn at random and
            left in their order; of ``indices`` and ``keep``, if these are given too. None keeps all.
        share_seed: Names the draw. A smaller share with the same seed is a part of a larger one.

    Raises:
        UserError: ``share`` is no such number, the list cannot be read, or names no sample of the dataset.
    """

    def __init__(self, *args, keep: str | None = None, share: float | None = None, share_seed: int = 0,
                 **kwargs) -> None:
        if share is not None and not (isinstance(share, Real) and 0 < share <= 1):
            raise UserError(f'share={share} of a dataset must be a number above 0, and at most 1: 0.1 keeps a tenth.')
        if not isinstance(share_seed, Integral) or share_seed < 0:
            raise UserError(f'share_seed={share_seed} must be a whole number, at least 0: it names the draw.')
        if keep is not None and not isinstance(keep, str | os.PathLike):
            raise UserError(f'keep={keep!r} must name a text file with the keys of the samples to keep, one a line.')
        self.keep, self.share, self.share_seed = keep, share, share_seed
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        """List the samples, choose among them, and tell what their classes are called to the transforms that ask."""
        if self._fully_initialized:
            return
        super().full_init()
        if self.keep is not None or self.share is not None:
            try:
                chosen = self._chosen(len(self), (self.get_data_info(i)['sample_key'] for i in range(len(self))))
            except UserError:
                self._fully_initialized = False
                raise
            self.get_subset_(chosen.tolist())
        self._name_classes()

    def _chosen(self, total: int, keys: Iterable[str]) -> np.ndarray:
        """Positions, ascending, of what ``keep`` and ``share`` leave of ``total`` samples with these keys."""
        chosen, absent = np.arange(total), ''
        if self.keep is not None:
            listed, names = np.unique(_listed(self.keep)), np.fromiter(map(key_hash, keys), np.uint64, total)
            chosen = np.flatnonzero(np.isin(names, listed))
            if lost := len(np.setdiff1d(listed, names)):
                absent = f'; {lost:,} of the {len(listed):,} keys in {self.keep} name none of them'
            if not len(chosen):
                raise UserError(f'None of the {total} samples below {self.img_prefix} is named in {self.keep}: give '
                                'keep= a list that was made of these images.')
        if self.share is not None:
            count = max(1, round(self.share * len(chosen)))
            chosen = chosen[np.sort(np.random.default_rng(self.share_seed).permutation(len(chosen))[:count])]
        print_log(f'{len(chosen):,} of {total:,} samples below {self.img_prefix} are left by '
                  f'{" and ".join(f"{name}=" for name in ("keep", "share") if getattr(self, name) is not None)}'
                  f'{absent}.', 'current')
        return chosen

    def _name_classes(self) -> None:
        for transform in iter_transforms(self):
            if isinstance(transform, MapLabel):
                transform.name_classes(self.metainfo.get('classes'))

    def __getitem__(self, idx: int) -> dict:
        self.full_init()
        return self.prepare_data(idx)

    def prepare_data(self, idx: int) -> dict:
        """The sample, passed through the pipeline."""
        return load_sample(self.pipeline, self.get_data_info(idx))

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        """The samples of a batch, the same as one by one, which the loader asks for."""
        self.full_init()
        own = type(self)
        if own.__getitem__ is not NamedSamples.__getitem__ or own.prepare_data is not NamedSamples.prepare_data:
            return [self[idx] for idx in indices]
        return load_batch(self, [self.get_data_info(idx) for idx in indices])

    def get_data_info(self, idx: int) -> dict:
        """The sample's dict with ``sample_key`` added."""
        info = super().get_data_info(idx)
        if 'sample_key' not in info:
            info['sample_key'] = PurePath(os.path.relpath(info['img_path'], self.img_prefix)).as_posix()
        return info
