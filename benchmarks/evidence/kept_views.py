"""Views that several trainings read are made once: the same pixels, from a file."""
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import TRANSFORMS

from mmtinyvit.datasets.seeding import ViewName, ViewSeed
from mmtinyvit.datasets.views import SeededAugment

from .photos import SIZE

__all__ = ['KeptViews', 'keep_views']

VIEWS, BASE_SEED = 40, 0  # that are kept: of the stores, and of the first seed from labels; 92 MB a view


@TRANSFORMS.register_module()
class KeptViews(SeededAugment):
    """``SeededAugment`` and the transform before it, for views that may lie in a file.

    A view is a pure function of its name, so it does not matter who made it, and processes may share the files: a row
    is the pixels of a photo, and one byte that is written after them.

    Args:
        load: The transform that loads the photo, if it has to be.
        photos: Folder of the photos, a folder in it for each class.
        folder: Of the files, one for each view.
        **kwargs: Of ``SeededAugment``.
    """

    def __init__(self, load: dict, photos: str, folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.load = TRANSFORMS.build(load)
        names = sorted(f'{entry.name}/{name}' for entry in os.scandir(photos) for name in os.listdir(entry))
        self.rows = {name: row for row, name in enumerate(names)}
        self.folder = Path(folder)
        self.files: dict[int, np.memmap] = {}

    def transform(self, results: dict) -> dict:
        name = self.name_of(results)
        kept = self._row(name)
        if kept is not None and kept[-1]:
            results.update(img=kept[:-1].reshape(SIZE, SIZE, 3).copy(), img_shape=(SIZE, SIZE),
                           base_seed=name.base_seed, view=name.view, sample_key=name.key,
                           aug_seed=ViewSeed(name.seed).value)
            return results
        results = super().transform(self.load(results))
        if kept is not None:
            kept[:-1] = results['img'].reshape(-1)
            kept[-1] = 1
        return results

    def _row(self, name: ViewName) -> np.ndarray | None:
        if name.base_seed != BASE_SEED or name.view >= VIEWS or name.key not in self.rows:
            return None
        if name.view not in self.files:
            self.folder.mkdir(parents=True, exist_ok=True)
            path, shape = self.folder / f'{name.view}.bin', (len(self.rows), SIZE * SIZE * 3 + 1)
            with path.open('ab') as file:
                file.truncate(shape[0] * shape[1])
            self.files[name.view] = np.memmap(path, np.uint8, 'r+', shape=shape)
        return self.files[name.view][self.rows[name.key]]


def keep_views(dataset: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A dataset's config whose views are kept below ``folder``, apart from those that other transforms make.

    A dataset whose views are not of the claims' size, or not made by seed, stays as it is.
    """
    load, augment, *rest = dataset['pipeline']
    if augment['type'] != 'mmtinyvit.SeededAugment' or augment['transforms'][0]['scale'] != SIZE:
        return dict(dataset)
    made_by = hashlib.blake2b(json.dumps([load, augment], sort_keys=True).encode(), digest_size=6).hexdigest()
    kept = augment | dict(type=KeptViews.__name__, load=load, folder=str(folder / made_by),
                          photos=str(Path(dataset['data_root'], dataset['data_prefix'])))
    return dict(dataset, pipeline=[kept, *rest])
