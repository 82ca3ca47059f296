"""Pictures of a store: replayed views, plots of the teacher's accuracy, and maps of how classes are correlated."""
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from mmtinyvit.datasets.identity import iter_keys
from mmtinyvit.datasets.view_dataset import ViewDataset
from mmtinyvit.datasets.views import find_seeded_augment
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import short_name
from mmtinyvit.store import LogitStore

from .class_correlation import ClassCorrelation
from .publish import write_file

__all__ = ['correlation_limit', 'draw_correlation', 'draw_stats', 'draw_views', 'show_correlation']

_MOST = 24  # letters of a name or key below or above a picture
_NAMED = 60  # classes of a map, at most, that have their names beside them
_PLAIN = {'text.parse_math': False}  # names may hold $


@matplotlib.rc_context(_PLAIN)
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


@matplotlib.rc_context(_PLAIN)
def draw_correlation(maps: Sequence[ClassCorrelation], chosen: np.ndarray, out: str | Path,
                     classes: Sequence[str] | None = None) -> None:
    """Draw maps of correlation side by side, in one scale, into ``out``, a PNG or PDF.

    Args:
        maps: What to draw.
        chosen: ``(n,)`` int64, the classes to show, in this order.
        out: The file.
        classes: What to call the classes; None shows their numbers.

    Raises:
        UserError: ``out`` cannot be written.
    """
    matrices = [each.matrix(chosen) for each in maps]
    side = min(max(3.5, .16 * len(chosen)), 9)
    figure = Figure(figsize=(side * len(maps) + 2.2, side + 1.6), layout='constrained')
    axes = figure.subplots(1, len(maps), squeeze=False, sharey=True)[0]
    limit = correlation_limit(matrices)
    for axis, found, matrix in zip(axes, maps, matrices, strict=True):
        image = show_correlation(axis, matrix, chosen, limit, classes, rows=axis is axes[0])
        axis.set_title(found.name if len(found.name) <= 2 * _MOST else f'…{found.name[1 - 2 * _MOST:]}', fontsize=9)
    figure.colorbar(image, ax=axes, shrink=.8, label='correlation', extend='both')
    _save(figure, out)


def correlation_limit(matrices: Sequence[np.ndarray]) -> float:
    """Where the colours end: beyond all but one in a hundred entries off the diagonal, at least 0.05."""
    values = [abs(matrix[~np.eye(len(matrix), dtype=bool)]) for matrix in matrices if len(matrix) > 1]
    return max([.05, *(float(np.quantile(each, .99)) for each in values)])


def show_correlation(axis: Axes, matrix: np.ndarray, chosen: np.ndarray, limit: float,
                     classes: Sequence[str] | None = None, rows: bool = True) -> AxesImage:
    """Show a map ``(n, n)`` of the classes ``chosen``; names stand at its sides where there is room for them.

    Args:
        axis: Where.
        matrix, chosen, classes: As for :func:`draw_correlation`.
        limit: Where the colours end.
        rows: Whether the rows have names; the columns have them.
    """
    image = axis.imshow(matrix, cmap='RdBu_r', vmin=-limit, vmax=limit, interpolation='nearest')
    named = len(chosen) <= _NAMED
    names = [_name(label, classes, 2 * _MOST) for label in chosen.tolist()] if named else []
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.tick_params(length=0, labelleft=rows)
    return image


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


def _name(label: int, classes: Sequence[str] | None, most: int = _MOST) -> str:
    known = classes is not None and 0 <= label < len(classes)
    name = short_name(str(classes[label])) if known else f'class {label}'
    return name if len(name) <= most else f'{name[:most - 1]}…'
