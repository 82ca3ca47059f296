"""A claim: what was published, how it is measured here, and the table that comes out."""
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .lab import Lab, Pending, Result

__all__ = ['VERDICTS', 'Claim', 'Gain', 'Row', 'between', 'enough', 'load_result', 'measure', 'row_of', 'verdict']

VERDICTS = ('holds', 'does not hold', 'not visible at this size')
ONE_SEED = 1.  # point, which nothing below is called an effect where there is one seed


@dataclass(frozen=True)
class Row:
    """A line of a claim's table.

    Args:
        group: The part of the table that it belongs to.
        name: What was done.
        images: Seen in all training that it took.
        top1: Percent, one for each seed.
        facts: Other columns.
        metric: What ``top1`` is, if it is another percentage.
    """
    group: str
    name: str
    images: int
    top1: tuple[float, ...]
    facts: tuple[tuple[str, Any], ...] = ()
    metric: str = 'top-1 (%)'

    @property
    def mean(self) -> float:
        return statistics.fmean(self.top1)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds."""
        return statistics.stdev(self.top1) if len(self.top1) > 1 else None


@dataclass(frozen=True)
class Claim:
    """What one command measures.

    Args:
        name: On the command line.
        title: In one line.
        question: What the reader wants to know, in a sentence or two.
        published: What the paper found, with its place.
        setting: How it is measured here.
        rows: Asks a lab for results, and yields rows as they are there.
        judge: From the rows, the effect in one sentence and one of :data:`VERDICTS`.
        draw: From the rows and axes, the figure; None has none.
    """
    name: str
    title: str
    question: str
    published: str
    setting: str
    rows: Callable[[Lab], Iterable[Row]]
    judge: Callable[[Sequence[Row]], tuple[str, str]]
    draw: Callable[[Sequence[Row], Any], None] | None = None


def row_of(group: str, name: str, results: Sequence[Result], before: int = 0, metric: str = Row.metric,
           **facts: Any) -> Row:
    """A row of the results of one training with several seeds; ``before`` are images seen before it."""
    return Row(group, name, results[0]['images'] + before, tuple(result['top1'] for result in results),
               tuple(facts.items()), metric)


class Gain:
    """How far one row is ahead of another.

    Attributes:
        points: The difference of the two means, as the table shows them.
        noise: Points that chance may give: the larger standard deviation over the seeds of the two.
    """

    def __init__(self, row: Row, over: Row) -> None:
        self.points = round(row.mean, 1) - round(over.mean, 1)
        self.noise = max(ONE_SEED if each.spread is None else each.spread for each in (row, over))

    def __str__(self) -> str:
        return f'{self.points:+.1f}'


def between(gains: Iterable[Gain]) -> str:
    """The smallest and the largest, as text."""
    gains = sorted(gains, key=lambda gain: gain.points)
    return f'{gains[0]} to {gains[-1]}'


def verdict(gains: Iterable[Gain]) -> str:
    """One of :data:`VERDICTS` about a claim that all ``gains`` are positive."""
    gains = list(gains)
    if all(gain.points > gain.noise for gain in gains):
        return VERDICTS[0]
    return VERDICTS[1] if any(gain.points < -gain.noise for gain in gains) else VERDICTS[2]


def enough(gain: Gain) -> str:
    """One of :data:`VERDICTS` about a claim that nothing is lost."""
    return VERDICTS[1] if gain.points < -gain.noise else VERDICTS[0]


def measure(claim: Claim, lab: Lab, folder: Path) -> bool:
    """Carry out a claim; the JSON file in ``folder`` is written anew with each row. Returns whether it is complete."""
    rows: list[Row] = []
    complete = False
    try:
        for row in claim.rows(lab):
            rows.append(row)
            _write(claim, rows, False, lab, folder)
        complete = True
    except Pending:
        pass
    if rows:
        _write(claim, rows, complete, lab, folder)
    return complete


def _write(claim: Claim, rows: Sequence[Row], complete: bool, lab: Lab, folder: Path) -> None:
    effect, verdict = claim.judge(rows) if complete else ('', 'not finished')
    results = list(lab.used.values())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{claim.name}.json').write_text(json.dumps(dict(
        claim=claim.name, complete=complete, effect=effect, verdict=verdict, quick=lab.quick,
        steps={key: dict(title=lab.titles[key], seconds=round(each['cpu_seconds']))  # of a core
               for key, each in sorted(lab.used.items())},
        machine=results[0]['machine'] if results else '', versions=sorted({each['version'] for each in results}),
        rows=[asdict(row) | dict(facts=dict(row.facts)) for row in rows]), indent=1) + '\n')


def load_result(folder: Path, name: str) -> dict[str, Any] | None:
    """The JSON file of a claim with its rows as :class:`Row`; None if it was never begun."""
    path = folder / f'{name}.json'
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    found['rows'] = [Row(**row | dict(top1=tuple(row['top1']), facts=tuple(row['facts'].items())))
                     for row in found['rows']]
    return found
