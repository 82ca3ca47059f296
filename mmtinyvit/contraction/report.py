"""What a search has found, out of its journal: a table, a picture, and the winner's recipe."""
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from mmengine.config import Config

from mmtinyvit.apis.publish import write_file

from .journal import Journal
from .recipe import Recipe
from .selection import Candidate

__all__ = ['UNITS', 'Row', 'read_rows', 'write_picture', 'write_table', 'write_winner']

UNITS = dict(divergence='divergence (nats)', accuracy='error (%)')  # of a judgement


@dataclass(frozen=True)
class Row:
    """A candidate and how it was judged.

    Args:
        values: By epoch; the last is that of the longest training.
    """
    step: int
    name: str
    base: str
    parameters: int
    macs: int
    images_per_s: float
    values: dict[int, float]
    kept: bool

    @property
    def epochs(self) -> int:
        return max(self.values, default=0)

    @property
    def value(self) -> float:
        """The last judgement; infinite if there is none."""
        return self.values.get(self.epochs, float('inf'))


def read_rows(out: Path) -> list[Row]:
    """The candidates of the search in a folder, by step: who was kept, who came further, who is judged better.

    Of a search that still runs, too.
    """
    lines, rows = Journal(out / 'contraction.jsonl').lines, []
    places = {(line['step'], name): place for line in lines if line['event'] == 'kept'
              for place, name in enumerate(line['names'])}
    for line in lines:
        for each in line['candidates'] if line['event'] == 'candidates' else ():
            values = {found['epoch']: found['value'] for found in lines if found['event'] == 'judged'
                      and (found['step'], found['name']) == (line['step'], each['name'])}
            rows.append(Row(line['step'], **each, values=values, kept=(line['step'], each['name']) in places))
    return sorted(rows, key=lambda row: (row.step, places.get((row.step, row.name), len(rows)), -row.epochs, row.value))


def write_table(rows: Sequence[Row], judge: str, path: Path) -> None:
    """All candidates as a Markdown table. Raises :class:`UserError` if it cannot be written."""
    lines = [f'| step | architecture | parameters | MACs | images/s | epochs | {UNITS[judge]} | kept |',
             '|---:|---|---:|---:|---:|---:|---:|---|']
    lines += [f'| {row.step} | `{row.name}` | {row.parameters:,} | {row.macs:,} | {row.images_per_s:,.0f} | '
              f'{row.epochs} | {row.value:.4f} | {"yes" if row.kept else ""} |' for row in rows]
    write_file(path, '\n'.join([*lines, '']).encode())


def write_picture(rows: Sequence[Row], judge: str, path: Path) -> None:
    """Parameters and throughput against the judge, a colour for each step; kept candidates are filled.

    Grey lines are the Pareto fronts of those that were trained for longest.

    Raises :class:`UserError` if it cannot be written.
    """
    figure = Figure(figsize=(10, 4.2), layout='constrained')
    axes: Any = figure.subplots(1, 2, sharey=True)
    for step in sorted({row.step for row in rows}):
        of_step = [row for row in rows if row.step == step and row.values]
        for axis, x in zip(axes, ('parameters', 'images_per_s'), strict=True):
            for kept in (False, True):
                shown = [row for row in of_step if row.kept == kept]
                axis.scatter([getattr(row, x) / (1e6 if x == 'parameters' else 1) for row in shown],
                             [row.value for row in shown], s=[12 + 5 * row.epochs for row in shown],
                             edgecolors=f'C{step - 1}', facecolors=f'C{step - 1}' if kept else 'none',
                             label=f'step {step}' if kept else None)
    longest = max((row.epochs for row in rows), default=0)
    whole = [row for row in rows if row.epochs == longest]
    for axis, x, key in ((axes[0], lambda row: row.parameters / 1e6, lambda row: row.parameters),
                         (axes[1], lambda row: row.images_per_s, lambda row: -row.images_per_s)):
        front = _front(sorted(whole, key=key))
        axis.plot([x(row) for row in front], [row.value for row in front], color='0.7', zorder=0)
    axes[0].set(xlabel='parameters (M)', ylabel=UNITS[judge])
    axes[1].set(xlabel='images per second')
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, title='filled: kept; size: epochs', loc='outside upper center', ncols=6)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    write_file(path, buffer.getvalue())


def _front(rows: Sequence[Row]) -> list[Row]:
    """Of rows in order of what they cost, each that is judged better than all before it."""
    front: list[Row] = []
    for row in rows:
        if not front or row.value < front[-1].value:
            front.append(row)
    return front


def write_winner(recipe: Recipe, winner: Candidate, path: Path) -> None:
    """The seed's whole recipe with the winner as its student. Raises :class:`UserError` if it cannot be written."""
    cfg = Config(recipe.with_student(winner.architecture).to_dict())  # formatted
    text = (f'"""TinyViT {winner.name}, {winner.parameters:,} parameters, found by a contraction of '
            f'{recipe.cfg.filename}.\n\n    mmtinyvit train {path}\n"""\n')
    write_file(path, f'{text}{cfg.pretty_text}'.encode())
