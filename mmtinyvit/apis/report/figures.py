"""The figures of a report as SVG inside the page: their colours are the page's, so they follow a dark theme."""
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..class_correlation import ClassCorrelation
from ..pictures import correlation_limit, show_correlation

__all__ = ['draw', 'draw_agreement', 'draw_by_view', 'draw_histogram', 'draw_map', 'draw_mass', 'draw_reliability']

# Colours that nothing else has; in the page each becomes what CSS says.
INK, ACCENT, FAINT = '#010203', '#040506', '#070809'
_CSS = {INK: 'currentColor', ACCENT: 'var(--accent)', FAINT: 'var(--line)'}
_STYLE = {
    'svg.fonttype': 'none', 'font.size': 9, 'text.color': INK, 'axes.edgecolor': INK, 'axes.labelcolor': INK,
    'xtick.color': INK, 'ytick.color': INK, 'axes.facecolor': 'none', 'figure.facecolor': 'none', 'grid.color': FAINT,
    'axes.spines.top': False, 'axes.spines.right': False, 'font.family': 'sans-serif', 'axes.axisbelow': True,
    'text.parse_math': False}  # names may hold $
_NO_METADATA = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
_PERCENT = FuncFormatter(lambda value, _: f'{100 * value:g} %')


def draw(name: str, alt: str, paint: Callable[[Axes], None], size: tuple[float, float] = (4., 2.7)) -> Markup:
    """An SVG element.

    Args:
        name: Of the figure: unique in the page.
        alt: What it shows, for those who do not see it.
        paint: Draws on the axes.
        size: Width and height in inches; an inch is 96 pixels where there is room.
    """
    with matplotlib.rc_context(_STYLE | {'svg.hashsalt': name}):
        figure = Figure(figsize=size, layout='constrained')
        paint(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format='svg', metadata=_NO_METADATA)
    svg = buffer.getvalue()
    svg = svg[svg.index('<svg'):]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf'\g<1>{name}-', svg)  # several figures share a page
    for colour, css in _CSS.items():
        svg = svg.replace(colour, css)
    head, rest = svg.split('>', 1)
    head = re.sub(r' (width|height)="[^"]*"', '', head)
    return Markup(f'{head} role="img" aria-label="{Markup.escape(alt)}" style="max-width:{96 * size[0]:g}px">{rest}')


def draw_mass(axis: Axes, mass: Mapping[int, float]) -> None:
    """Mean mass over K."""
    axis.plot(list(mass), list(mass.values()), 'o-', color=ACCENT)
    axis.set(xlabel='K, most probable classes', ylabel='mean mass', xscale='log', ylim=(0, 1.02))
    ticks = [k for k in mass if k == max(mass) or 1.3 * k < max(mass)]
    axis.set_xticks(ticks, list(map(str, ticks)))
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(_PERCENT)
    axis.grid(axis='y')


def draw_histogram(axis: Axes, histogram: Mapping[str, Sequence], label: str, share: bool = True) -> None:
    """A histogram of views; ``share`` shows values as percent."""
    counts = np.asarray(histogram['counts'], np.float64)
    axis.stairs(counts / max(counts.sum(), 1), histogram['edges'], fill=True, color=ACCENT)
    axis.set(xlabel=label, ylabel='share of views')
    axis.yaxis.set_major_formatter(_PERCENT)
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.grid(axis='y')
    if share:
        axis.xaxis.set_major_formatter(_PERCENT)


def draw_agreement(axis: Axes, shares: Sequence[float], samples: Sequence[int], views: int) -> None:
    """How many of the views have the first class that most of them have."""
    axis.bar([round(share * views) for share in shares], np.asarray(samples) / max(sum(samples), 1), color=ACCENT)
    axis.set(xlabel=f'views of {views} with the same first class', ylabel='share of images', xlim=(.4, views + .6))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.yaxis.set_major_formatter(_PERCENT)
    axis.grid(axis='y')


def draw_by_view(axis: Axes, by_view: Mapping[int, float]) -> None:
    """The teacher's accuracy in each view."""
    axis.plot(list(by_view), list(by_view.values()), 'o-', color=ACCENT)
    axis.set(xlabel='view', ylabel='top-1', ylim=(0, 1.02))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.yaxis.set_major_formatter(_PERCENT)
    axis.grid(axis='y')


def draw_reliability(axis: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    """Accuracy over confidence; the dots are as large as their bins."""
    most = max([row['views'] for row in bins] or [1])
    axis.plot([0, 1], [0, 1], '--', color=INK, linewidth=1)
    axis.plot([row['confidence'] for row in bins], [row['accuracy'] for row in bins], color=ACCENT)
    axis.scatter([row['confidence'] for row in bins], [row['accuracy'] for row in bins], color=ACCENT,
                 s=[8 + 60 * row['views'] / most for row in bins])
    axis.set(xlabel='probability of the first class', ylabel='share that is right', xlim=(0, 1.02), ylim=(0, 1.04))
    axis.xaxis.set_major_formatter(_PERCENT)
    axis.yaxis.set_major_formatter(_PERCENT)
    axis.grid()


def draw_map(axis: Axes, correlation: ClassCorrelation, chosen: np.ndarray, classes: Sequence[str] | None) -> None:
    """The correlation of the classes ``chosen``."""
    matrix = correlation.matrix(chosen)
    image = show_correlation(axis, matrix, chosen, correlation_limit([matrix]), classes)
    axis.figure.colorbar(image, ax=axis, shrink=.7, label='correlation', extend='both').outline.set_visible(False)
