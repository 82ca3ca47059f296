"""Pictures of a store: replayed views with the teacher's classes, and plots of the teacher's accuracy."""
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmtinyvit.datasets.identity import iter_keys
from mmtinyvit.datasets.view_dataset import ViewDataset
from mmtinyvit.datasets.views import find_seeded_augment
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import short_name
from mmtinyvit.store import LogitStore

from .publish import write_file

__all__ = ['draw_stats', 'draw_views']

_MOST = 24  # letters of a name or key below or above a picture


def draw_views(store: LogitStore | None, dataset: Any, out: str | Path, indices: list[int], views: list[int],
               top: int = 3, classes: Sequence[str] | None = None) -> None:
    """Draw a grid: a row per sample, the image itself first, then its views as the teacher saw them.

    Args:
        store: The store; None draws the views alone, before anything is saved.
        dataset: The dataset with its replaying pipeline.
        out: File to write, PNG or PDF.
        indices: Samples, as indices of ``dataset``.
        views: Views, all in the store.
        top: Classes to name below each view.
        classes: What to call the teacher's classes, from :func:`~mmtinyvit.apis.store_stats.name_classes`; None shows
            their numbers.

    Raises:
        UserError: An index is beyond the dataset, or ``out`` cannot be written; a record is missing (``StoreError``).
    """
    beyond = [i for i in indices if not 0 <= i < len(dataset)]
    if beyond:
        raise UserError(f'There is no sample {beyond[0]}: the dataset has {len(dataset)}.')
    labels = getattr(dataset, 'metainfo', {}).get('classes')
    replayed, keys = ViewDataset(dataset), list(iter_keys(dataset, find_seeded_augment(dataset).key_root))
    columns, lines = len(views) + 1, 3 + (top if store else 0)
    figure = Figure(figsize=(2.2 * columns, (2.2 + .17 * lines) * len(indices)), layout='constrained')
    figure.get_layout_engine().set(h_pad=.15)  # inches: the text below a view keeps off the title of the next
    axes = figure.subplots(len(indices), columns, squeeze=False)
    for row, index in zip(axes, indices, strict=True):
        info = dataset.get_data_info(index)
        original = replayed.pipeline.transforms[0](dict(info))['img'][..., ::-1]  # BGR to RGB
        key = keys[index] if len(keys[index]) <= _MOST else f'…{keys[index][1 - _MOST:]}'
        label = f"label: {_name(info['gt_label'], labels)}" if 'gt_label' in info else 'no label'
        _show(row[0], original, f'{key}\n{label}')
        for axis, view in zip(row[1:], views, strict=True):
            image = replayed[view, index]['inputs'].numpy()[::-1].transpose(1, 2, 0)  # (H, W, 3), RGB
            _show(axis, image, f'view {view}', _said(store, view, keys[index], top, classes) if store else '')
    _save(figure, out, bbox_inches='tight')


def draw_stats(stats: dict[str, Any], out: str | Path) -> None:
    """Draw what :func:`~mmtinyvit.apis.store_stats.measure_store` found into ``out``, a PNG or PDF.

    Raises :class:`UserError` if that cannot be written.
    """
    figure = Figure(figsize=(10, 7), layout='constrained')
    axes = figure.subplots(2, 2)
    mass, by_view = stats['mass'], stats['top1_by_view']
    axes[0, 0].plot(list(mass), list(mass.values()), 'o-')
    axes[0, 0].set(xlabel='K', ylabel='mean mass of the top K classes', xscale='log', ylim=(0, 1.02))
    ticks = [k for k in mass if k == max(mass) or 1.3 * k < max(mass)]  # such as 100 and 110: too close together
    axes[0, 0].set_xticks(ticks, list(map(str, ticks)))
    axes[0, 0].minorticks_off()
    axes[0, 1].plot(list(by_view), [100 * top1 for top1 in by_view.values()], 'o-')
    axes[0, 1].set(xlabel='view', ylabel="teacher's top-1 accuracy (%)")
    axes[0, 1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axis, name, title in ((axes[1, 0], 'entropy', 'entropy (nats)'),
                              (axes[1, 1], 'label_prob', 'probability of the label')):
        histogram = stats['histograms'][name]
        axis.stairs(histogram['counts'], histogram['edges'], fill=True)
        axis.set(xlabel=title, ylabel='views of images')
        axis.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _save(figure, out)


def _save(figure: Figure, out: str | Path, **options: Any) -> None:
    buffer, ending = io.BytesIO(), Path(out).suffix[1:].lower() or 'png'
    if ending not in figure.canvas.get_supported_filetypes():
        raise UserError(f'{out} ends with .{ending}, which is no kind of picture: write a .png or a .pdf.')
    figure.savefig(buffer, dpi=110, format=ending, **options)
    write_file(Path(out), buffer.getvalue())


def _show(axis: Axes, image: np.ndarray, title: str, below: str = '') -> None:
    axis.imshow(image.astype(np.uint8), interpolation='nearest')
    axis.set_title(title, fontsize=8)
    axis.set_xlabel(below, fontsize=8)
    axis.set(xticks=[], yticks=[])


def _said(store: LogitStore, view: int, key: str, top: int, classes: Sequence[str] | None) -> str:
    """The teacher's first classes for a view, one in a line."""
    index, log_prob, *_ = store.read(view, [key]).row(0)
    return '\n'.join(f'{_name(index[k], classes)} {np.exp(log_prob[k]):.1%}' for k in np.argsort(-log_prob)[:top])


def _name(label: int, classes: Sequence[str] | None) -> str:
    known = classes is not None and 0 <= label < len(classes)
    name = short_name(str(classes[label])) if known else f'class {label}'
    return name if len(name) <= _MOST else f'{name[:_MOST - 1]}…'
