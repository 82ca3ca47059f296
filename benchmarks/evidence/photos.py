"""Imagenette at 96 pixels: the views, who reads them, and how a student is judged."""
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.registry import DATASETS, METRICS
from PIL import Image

from mmtinyvit.datasets.image_folders import ImageFolder
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation import MappedAccuracy

__all__ = ['CLASSES', 'IMAGENET_INDEX', 'NORM', 'PHOTOS', 'SIZE', 'HeldOutAccuracy', 'NoisyPhotos', 'data_folder',
           'pipeline', 'test_loader', 'train_loader', 'write_photos']

PHOTOS, CLASSES, SIZE = 7500, 10, 64
IMAGENET_INDEX = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)  # of the ten classes among ImageNet's 1,000
NORM = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
CHOOSING_EVERY = 5  # of the validation photos, one in so many chooses learning rates, and the others judge


def data_folder() -> Path:
    """The folder with imagenette96/ and the teachers. Raises :class:`UserError` if MMTINYVIT_DATA does not name it."""
    folder = os.environ.get('MMTINYVIT_DATA')
    if not folder or not Path(folder, 'imagenette96').is_dir():
        raise UserError('This benchmark needs MMTINYVIT_DATA, the folder with imagenette96/ and the teachers.')
    return Path(folder)


def write_photos(folder: Path) -> Path:
    """Ten classes of smooth random pictures in the folders of Imagenette, many names for each file."""
    rng = np.random.default_rng(0)
    for split, count in (('train', PHOTOS // CLASSES), ('val', 250)):
        for number in range(CLASSES):
            place = folder / f'imagenette96/{split}/n{number:02d}'
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                path = place / f'{i:03d}.png'
                if i % 50 == 0 and not path.exists():
                    low = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
                    low[number // 4, number % 4] = 255
                    Image.fromarray(low).resize((96, 96), Image.Resampling.BICUBIC).save(path)
                elif i % 50 and not path.exists():
                    path.hardlink_to(place / f'{i - i % 50:03d}.png')
    return folder


def pipeline(*read: dict, base_seed: int = 0, strong: bool = False) -> list[dict]:
    """Load, augment by seed, perhaps read a store or map labels, pack: views of 64 pixels.

    ``strong`` has smaller crops, and RandAugment as the paper's recipes.
    """
    colours = dict(type='mmtinyvit.RandAugment', policies='timm_increasing', num_policies=2, total_level=10,
                   magnitude_level=9, magnitude_std=0.5)
    return [
        dict(type='mmtinyvit.LoadImage'),
        dict(type='mmtinyvit.SeededAugment', base_seed=base_seed, transforms=[
            dict(type='mmtinyvit.RandomResizedCrop', scale=SIZE, crop_ratio_range=[0.2 if strong else 0.35, 1.0]),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            colours if strong else dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4)]),
        *read,
        dict(type='mmtinyvit.PackViewInputs')]


def train_loader(transforms: list[dict], batch_size: int = 64, flipped: float = 0., **subset: object) -> dict:
    """The training photos, or a part of them: ``indices``, ``share``, ``share_seed`` and ``keep`` of the dataset.

    A share of ``flipped`` labels is wrong.
    """
    wrong = dict(type='NoisyPhotos', flipped=flipped) if flipped else {}
    return dict(
        batch_size=batch_size, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
        dataset=dict(type='mmtinyvit.ImageFolder', data_root='{data}/imagenette96', data_prefix='train',
                     pipeline=transforms) | wrong | subset)


def test_loader(**subset: object) -> dict:
    """The validation photos; the student's preprocessor makes them 64 pixels wide."""
    return dict(
        batch_size=125, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
        dataset=dict(type='mmtinyvit.ImageFolder', data_root='{data}/imagenette96', data_prefix='val',
                     pipeline=[dict(type='mmtinyvit.LoadImage'), dict(type='PackInputs')]) | subset)


@DATASETS.register_module()
class NoisyPhotos(ImageFolder):
    """Photos of which some have a wrong label, the same ones each time.

    Args:
        flipped: Share of all labels that become one of the other classes, drawn at random.
        **kwargs: Of ``ImageFolder``.
    """

    def __init__(self, *, flipped: float, **kwargs: object) -> None:
        self.flipped = flipped
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        samples, rng = super().load_data_list(), np.random.default_rng(0)
        for i in rng.permutation(len(samples))[:round(self.flipped * len(samples))]:
            true, shift = samples[i]['gt_label'], int(rng.integers(1, CLASSES))
            samples[i].update(gt_label=(true + shift) % CLASSES, true_label=true)
        return samples


@METRICS.register_module()
class HeldOutAccuracy(MappedAccuracy):
    """Top-1 among the data's classes, by one part of the photos for choosing and by the others for judging.

    Results: ``accuracy/top1`` over four of five photos, and ``accuracy/choosing`` over every fifth.

    Args:
        num_classes: Size of the head.
        index: The head's class for each class of the data, -1 for none.
    """

    def __init__(self, num_classes: int, index: Sequence[int]) -> None:
        super().__init__(num_classes, index, topk=1)

    def compute_metrics(self, results: list[list[bool]]) -> dict[str, float]:
        choosing = results[::CHOOSING_EVERY]
        judging = [each for i, each in enumerate(results) if i % CHOOSING_EVERY]
        return dict(super().compute_metrics(judging), choosing=super().compute_metrics(choosing)['top1'])
