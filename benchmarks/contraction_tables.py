"""The tables of benchmarks/contraction.py: what students are worth, and how well one ranking predicts another."""
import math
import statistics
from collections.abc import Sequence

from scipy.stats import spearmanr

from mmtinyvit.apis.timing import machine

__all__ = ['correlations', 'interval', 'noise', 'show', 'verdict']

SAME_SPEED = 0.98  # of the other's images per second: what the clock cannot tell apart
ERROR = 1.06  # of Spearman's correlation in Fisher's z, times 1 / (n - 3): Fieller, Hartley and Pearson, 1957


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
    pairs += [(f'inherited {epoch}', f'scratch {last}') for epoch in rungs[:-1]]
    pairs += [(f'scratch {epoch}', f'scratch {last}') for epoch in rungs[:-1]]
    pairs += [(f'{start} {epoch}', 'top1') for start in ('scratch', 'inherited') for epoch in rungs]
    return [(f'{a} and {"long training" if b == "top1" else b}', rank_correlation(column(a), column(b)))
            for a, b in pairs]


def interval(value: float, count: int) -> tuple[float, float]:
    """Between which a rank correlation of so many pairs lies, with 95 % confidence."""
    if math.isnan(value) or count < 5:
        return -1., 1.
    z, error = math.atanh(max(min(value, 0.999999), -0.999999)), 1.96 * math.sqrt(ERROR / (count - 3))
    return math.tanh(z - error), math.tanh(z + error)


def noise(arms: Sequence[dict], agreement: Sequence[dict]) -> dict[str, float]:
    """How far long trainings of the candidates lie apart, and how far those of one student that differ in the seed.

    Returns:
        dict: ``candidates`` and ``seeds``, standard deviations in points of accuracy, and ``ceiling``, about the
        correlation that even the true ranking would have with one training of each candidate.
    """
    between = statistics.stdev(row['top1'] for row in agreement) if len(agreement) > 1 else 0.
    within = math.sqrt(statistics.fmean(row['spread']**2 for row in arms))
    ceiling = math.sqrt(max(0., 1 - (within / between)**2)) if between else 0.
    return dict(candidates=between, seeds=within, ceiling=ceiling)


def verdict(arms: Sequence[dict]) -> str:
    """Whether the aim was met, in one sentence; of the comparisons of speeds, the median counts."""
    ours, _, *others = arms
    spread = max(row['spread'] for row in arms)
    gains = {row['arm']: ours['mean'] - row['mean'] for row in others}
    speeds = {row['arm']: [mine / other for mine, other in zip(ours['images_per_s'], row['images_per_s'], strict=True)]
              for row in others}
    won = all(gain > spread and statistics.median(speeds[name]) >= SAME_SPEED for name, gain in gains.items())
    told = ', '.join(f'{gain:+.1f} points over {name} at {statistics.median(speeds[name]):.2f} times its speed '
                     f'({min(speeds[name]):.2f} to {max(speeds[name]):.2f})' for name, gain in gains.items())
    return f'The aim is {"met" if won else "not met"}: {told}; the largest spread of seeds is {spread:.1f} points.'


def show(arms: Sequence[dict], agreement: Sequence[dict], rungs: Sequence[int], long: int, rate: float) -> None:
    """Print both tables, and whether the aim was met."""
    print(f'\n| student | parameters | MACs (M) | images/s | top-1 after {long} epochs (%) |\n'
          '|---|---:|---:|---:|---:|')
    for row in arms:
        speeds = row['images_per_s']
        print(f'| {row["arm"]}: `{row["architecture"]}` | {row["parameters"]:,} | {row["macs"] / 1e6:.1f} | '
              f'{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f}) | '
              f'{row["mean"]:.1f} ± {row["spread"]:.1f} |')
    drawn, found, count = sorted(arms[-1]['drawn'].values()), noise(arms, agreement), len(agreement)
    print(f'\nAll have the learning rate {rate:g}. The random ones, with one seed each: '
          f'{", ".join(f"{top1:.1f}" for top1 in drawn)} %.\n{verdict(arms)}\n\n'
          f'| ranks of {count} candidates after so many epochs | Spearman | 95 % |\n|---|---:|---:|')
    for name, value in correlations(agreement, rungs):
        low, high = interval(value, count)
        print(f'| {name} | {value:.2f} | {low:.2f} to {high:.2f} |')
    print(f'\nLong trainings of the candidates differ by {found["candidates"]:.2f} points (standard deviation), and '
          f'those of one student by {found["seeds"]:.2f}, from seed to seed: the true ranking would correlate with one '
          f'long training of each by about {found["ceiling"]:.2f}.\n\n{machine()}')
