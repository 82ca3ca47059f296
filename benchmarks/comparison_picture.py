"""The picture of the comparison page: published accuracy over images per second, drawn from the page's tables."""
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

__all__ = ['draw']

SPEED, TOP1 = 'CPU images/s', 'published top-1 (%)'


def draw(page: Path, picture: Path) -> None:
    """Draw the networks whose speed and accuracy the page has; those of this library by family, and all others in grey.

    Args:
        page: The Markdown page; one table per family, with a line of column names.
        picture: SVG file to write. The same page gives the same bytes.
    """
    with rc_context({'svg.hashsalt': 'comparison', 'svg.fonttype': 'none', 'font.size': 9}):
        figure = Figure(figsize=(6.4, 4.2), layout='constrained')
        axes = figure.add_subplot(xscale='log', xlabel=SPEED, ylabel=TOP1)
        others = []
        for table in page.read_text().split('\n## ')[1:]:
            family, rows = _read(table)
            known = [row for row in rows if row.get(SPEED) and row.get(TOP1)]
            points = [(float(row[SPEED]), float(row[TOP1])) for row in known if row['library'] == 'mmtinyvit']
            others += [(float(row[SPEED]), float(row[TOP1])) for row in known if row['library'] != 'mmtinyvit']
            if points:
                axes.plot(*zip(*sorted(points), strict=True), 'o-', markersize=5, linewidth=1, label=family)
        axes.plot(*zip(*others, strict=True), 'x', color='0.6', zorder=1, label="mmpretrain's networks")
        axes.set_xticks([3, 10, 30, 100, 300], ['3', '10', '30', '100', '300'])
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(picture, metadata={'Date': None})


def _read(table: str) -> tuple[str, list[dict[str, str]]]:
    """The title of a section and the rows of its table, by column."""
    family, *lines = table.splitlines()
    names, *rows = ([cell.strip() for cell in line.strip('|').split('|')] for line in lines if line.startswith('| '))
    return family, [dict(zip(names, row, strict=True)) for row in rows]
