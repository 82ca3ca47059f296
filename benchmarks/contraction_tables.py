"""The tables of benchmarks/contraction.py: what students are worth, and how well one ranking predicts another."""
import math
from collections.abc import Sequence

from scipy.stats import spearmanr

from mmtinyvit.apis.timing import machine

__all__ = ['correlations', 'show', 'verdict']


def correlations(rows: Sequence[dict], rungs: Sequence[int]) -> list[tuple[str, float]]:
    """Spearman's rank correlation of pairs of columns; of accuracy its negative, so that 1 always means agreement."""
    def column(name: str) -> list[float]:
        return [-row['top1'] if name == 'top1' else row[name] for row in rows]

    def rank_correlation(a: list[float], b: list[float]) -> float:
        if len(set(a)) == 1 or len(set(b)) == 1:
            return math.nan
        return float(spearmanr(a, b).statistic)

    last = rungs[-1]
    pairs = [(f'inherited {epoch}', f'scratch {epoch}') for epoch in rungs]
    pairs += [(f'scratch {epoch}', f'scratch {last}') for epoch in rungs[:-1]]
    pairs += [(f'{start} {epoch}', 'top1') for start in ('scratch', 'inherited') for epoch in rungs]
    return [(f'{a} and {"long training" if b == "top1" else b}', rank_correlation(column(a), column(b)))
            for a, b in pairs]


def verdict(arms: Sequence[dict]) -> str:
    """Whether the aim was met, in one sentence."""
    ours, _, *others = arms
    spread = max(row['spread'] for row in arms)
    gains = {row['arm']: ours['mean'] - row['mean'] for row in others}
    slower = [row['arm'] for row in others if ours['images_per_s'] < row['images_per_s']]
    won = all(gain > spread for gain in gains.values()) and not slower[:1]
    told = ', '.join(f'{gain:+.1f} points over {name}' for name, gain in gains.items())
    return (f'The aim is {"met" if won else "not met"}: {told}; the largest spread of seeds is {spread:.1f} points; '
            + (f'slower than {", ".join(slower)}.' if slower else 'not slower than any of these.'))


def show(arms: Sequence[dict], agreement: Sequence[dict], rungs: Sequence[int], long: int) -> None:
    """Print both tables, and whether the aim was met."""
    print(f'\n| student | parameters | MACs (M) | images/s | top-1 after {long} epochs (%) |\n'
          '|---|---:|---:|---:|---:|')
    for row in arms:
        print(f'| {row["arm"]}: `{row["architecture"]}` | {row["parameters"]:,} | {row["macs"] / 1e6:.1f} | '
              f'{row["images_per_s"]:,.0f} | {row["mean"]:.1f} ± {row["spread"]:.1f} |')
    print(f'\n{verdict(arms)}\n\n| ranks of {len(agreement)} candidates after so many epochs | Spearman |\n|---|---:|')
    for name, value in correlations(agreement, rungs):
        print(f'| {name} | {value:.2f} |')
    print(f'\n{machine()}')
