"""Pictures of replayed views with what the teacher said about them."""
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from mmtinyvit.datasets.identity import find_seeded_augment, iter_keys
from mmtinyvit.datasets.view_dataset import ViewDataset
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore

__all__ = ['draw_views']


def draw_views(store: LogitStore, dataset: Any, out: str | Path, indices: list[int], views: list[int],
               top: int = 3) -> Path:
    """Draw a grid: a row per sample, the image itself first, then its views as the teacher saw them.

    Args:
        store: The store.
        dataset: The dataset with its replaying pipeline.
        out: File to write, PNG or PDF.
        indices: Samples, as indices of ``dataset``.
        views: Views, all in the store.
        top: Classes to name below each view.

    Returns:
        Path: ``out``.

    Raises:
        UserError: An index is beyond the dataset, or ``out`` cannot be written; a record is missing (``StoreError``).
    """
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    beyond = [i for i in indices if not 0 <= i < len(dataset)]
    if beyond:
        raise UserError(f'There is no sample {beyond[0]}: the dataset has {len(dataset)}.')
    labels = getattr(dataset, 'metainfo', {}).get('classes')
    classes = labels if labels and len(labels) == store.num_classes else range(store.num_classes)
    viewed, keys = ViewDataset(dataset), list(iter_keys(dataset, find_seeded_augment(dataset).key_root))
    figure, axes = plt.subplots(len(indices), len(views) + 1, squeeze=False, layout='constrained',
                                figsize=(2 * (len(views) + 1), 2.1 * len(indices) + .3 * top * len(indices) / 2))
    for row, index in zip(axes, indices, strict=True):
        info = dataset.get_data_info(index)
        original = dataset.pipeline.transforms[0](dict(info))['img'][..., ::-1]  # BGR to RGB
        label = (labels or classes)[info['gt_label']] if 'gt_label' in info else ''
        _show(row[0], original, f'{_shorten(keys[index])}\nlabel {label}')
        for axis, view in zip(row[1:], views, strict=True):
            image = viewed[view, index]['inputs'].numpy()[::-1].transpose(1, 2, 0)  # (H, W, 3), RGB
            record = store.read(view, [keys[index]])
            best = np.argsort(-record.log_prob[0])[:top]
            said = [f'{_shorten(str(classes[record.index[0, k]]))} {np.exp(record.log_prob[0, k]):.1%}' for k in best]
            _show(axis, image, f'view {view}', '\n'.join(said))
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=110, bbox_inches='tight')
    except OSError as error:
        raise UserError(f'The picture cannot be written to {out} ({error.strerror}): choose another --out.') from error
    finally:
        plt.close(figure)
    return out


def _show(axis: Any, image: np.ndarray, title: str, below: str = '') -> None:
    axis.imshow(image.astype(np.uint8), interpolation='nearest')
    axis.set_title(title, fontsize=8)
    axis.set_xlabel(below, fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])


def _shorten(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f'…{text[1 - most:]}'
