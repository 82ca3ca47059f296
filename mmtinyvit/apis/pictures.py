"""Pictures of a store: replayed views with the teacher's classes, and plots of the teacher's accuracy."""
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmtinyvit.datasets.identity import iter_keys
from mmtinyvit.datasets.views import ViewDataset, find_seeded_augment
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import describe_class
from mmtinyvit.store import LogitStore

from .publish import write_file

__all__ = ['draw_stats', 'draw_views']


def draw_views(store: LogitStore, dataset: Any, out: str | Path, indices: list[int], views: list[int],
               top: int = 3) -> None:
    """Draw a grid: a row per sample, the image itself first, then its views as the teacher saw them.

    Args:
        store: The store.
        dataset: The dataset with its replaying pipeline.
        out: File to write, PNG or PDF.
        indices: Samples, as indices of ``dataset``.
        views: Views, all in the store.
        top: Classes to name below each view.

    Raises:
        UserError: An index is beyond the dataset, or ``out`` cannot be written; a record is missing (``StoreError``).
    """
    beyond = [i for i in indices if not 0 <= i < len(dataset)]
    if beyond:
        raise UserError(f'There is no sample {beyond[0]}: the dataset has {len(dataset)}.')
    labels = getattr(dataset, 'metainfo', {}).get('classes')
    classes = store.manifest.class_names
    replayed, keys = ViewDataset(dataset), list(iter_keys(dataset, find_seeded_augment(dataset).key_root))
    columns = len(views) + 1
    figure = Figure(figsize=(2 * columns, (2.1 + .15 * top) * len(indices)), layout='constrained')
    axes = figure.subplots(len(indices), columns, squeeze=False)
    for row, index in zip(axes, indices, strict=True):
        info = dataset.get_data_info(index)
        original = replayed.pipeline.transforms[0](dict(info))['img'][..., ::-1]  # BGR to RGB
        label = f"label {_name(labels, info['gt_label'])}" if 'gt_label' in info else 'no label'
        _show(row[0], original, f'{_shorten(keys[index])}\n{label}')
        for axis, view in zip(row[1:], views, strict=True):
            image = replayed[view, index]['inputs'].numpy()[::-1].transpose(1, 2, 0)  # (H, W, 3), RGB
            record = store.read(view, [keys[index]])
            best = np.argsort(-record.log_prob[0])[:top]
            said = [(_shorten(_name(classes, record.index[0, k])), np.exp(record.log_prob[0, k])) for k in best]
            lines = [f'{name} {prob:.1%}' for name, prob in said]
            _show(axis, image, f'view {view}', '\n'.join(lines))
    _save(figure, out, bbox_inches='tight')


def draw_stats(stats: dict[str, Any], out: str | Path) -> None:
    """Draw what :func:`~mmtinyvit.apis.store_stats.measure_store` found into ``out``, a PNG or PDF.

    Raises :class:`UserError` if that cannot be written.
    """
    figure = Figure(figsize=(10, 7), layout='constrained')
    axes = figure.subplots(2, 2)
    axes[0, 0].plot(list(stats['mass']), list(stats['mass'].values()), 'o-')
    axes[0, 0].set(xlabel='K', ylabel='mean mass of the K most probable classes', xscale='log', ylim=(0, 1.02))
    axes[0, 1].plot(list(stats['top1_by_view']), [100 * top1 for top1 in stats['top1_by_view'].values()], 'o-')
    axes[0, 1].set(xlabel='view', ylabel="teacher's top-1 accuracy (%)")
    for axis, name, title in ((axes[1, 0], 'entropy', 'entropy (nats)'),
                              (axes[1, 1], 'label_prob', 'probability of the label')):
        histogram = stats['histograms'][name]
        axis.stairs(histogram['counts'], histogram['edges'], fill=True)
        axis.set(xlabel=title, ylabel='views of samples')
    _save(figure, out)


def _save(figure: Figure, out: str | Path, **options: Any) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format=Path(out).suffix[1:] or 'png', **options)
    write_file(Path(out), buffer.getvalue())


def _show(axis: Axes, image: np.ndarray, title: str, below: str = '') -> None:
    axis.imshow(image.astype(np.uint8), interpolation='nearest')
    axis.set_title(title, fontsize=8)
    axis.set_xlabel(below, fontsize=8)
    axis.set(xticks=[], yticks=[])


def _name(names: Sequence[str] | None, number: int) -> str:
    """What people call a class, as far as it is known."""
    return describe_class(str(names[number])).partition(',')[0] if names else str(number)


def _shorten(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f'…{text[1 - most:]}'
