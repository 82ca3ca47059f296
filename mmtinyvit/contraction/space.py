"""Which factors of an architecture may move, through which values, and the neighbours that moves lead to."""
import random
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product
from math import prod

from mmtinyvit.errors import UserError

from .architecture import FACTORS, STAGES, Architecture
from .counts import map_sides

__all__ = ['Space', 'parse_values']

MOST_NEIGHBOURS = 200_000  # of one base; beyond, so many are drawn
PAPER_WINDOWS = (7, 14)
LARGEST = 10_000  # value of a factor
WHOLE = frozenset('DNWE')  # factors that are whole numbers from 1


@dataclass(frozen=True)
class Space:
    """The values of each factor, in ascending order. A factor with none, or with its own alone, never moves."""
    values: Mapping[str, tuple[float, ...]]

    @classmethod
    def around(cls, seed: Architecture, size: Sequence[int], factors: Sequence[str] | None = None,
               given: Mapping[str, Sequence[float]] | None = None) -> 'Space':
        """The space below a seed.

        By default as in the paper: channels in steps of a head's, from one head's to the seed's; one block to the
        seed's; windows of 7 or 14 tokens that are not larger than the map; the ratios R and M in whole steps from 2 to
        the seed's; heads of the seed's width.

        Args:
            seed: Its own values always belong to the space, but those of a factor in ``given`` need not.
            size: H and W of the images, in pixels.
            factors: What may move, ``'D3'`` or all stages as ``'D'``; None for all.
            given: Values of factors, instead.

        Raises:
            UserError: A factor does not exist, or has values and may not move.
        """
        sides, values = map_sides(size)[1:], {}
        for stage in range(1, STAGES + 1):
            head = seed.head_dims[max(stage - 2, 0)]
            values[f'D{stage}'] = range(head, seed.dims[stage - 1] + 1, head)
            values[f'N{stage}'] = range(1, seed.depths[stage - 1] + 1)
            if stage > 1:
                values[f'W{stage}'] = [window for window in PAPER_WINDOWS if window <= max(sides[stage - 1])]
        values |= {'R': range(2, int(seed.expand_ratio) + 1), 'M': range(2, int(seed.mlp_ratio) + 1), 'E': ()}
        may_move = {one for name in factors or FACTORS for one in _expand(name)}
        fixed = next((name for name in given or {} if not may_move & {*_expand(name)}), None)
        if fixed:
            raise UserError(f'--space has values of {fixed}, which --factors {" ".join(factors)} does not let move: '
                            'add it there.')
        listed = {one: each for name, each in (given or {}).items() for one in _expand(name)}
        listed |= {name: each for name, each in (given or {}).items() if name in FACTORS}  # D3 comes before D
        return cls({factor: () if factor not in may_move else
                    tuple(sorted({float(value) for value in listed[factor]} if factor in listed else
                                 {float(value) for value in values[factor]} | {float(seed[factor])}))
                    for factor in FACTORS})

    def __contains__(self, architecture: Architecture) -> bool:
        """Whether every factor that may move has one of its values."""
        return all(not values or architecture[factor] in values for factor, values in self.values.items())

    def smallest(self, base: Architecture) -> Architecture | None:
        """The architecture with the least value of each factor but E; None if its heads do not fit."""
        return base.moved({factor: values[0] for factor, values in self.values.items() if values and factor != 'E'})

    def neighbours(self, base: Architecture, moves: int, reach: int, seed: int = 0) -> Iterator[Architecture]:
        """What one to ``moves`` factors lead to, each by up to ``reach`` of its values up or down; never ``base``.

        All of them, in a fixed order; of more than :data:`MOST_NEIGHBOURS` so many, drawn by ``seed``. Heads must
        divide the channels, and no stage has fewer channels than the one before it.
        """
        options = {factor: near for factor in FACTORS if (near := self._near(factor, base[factor], reach))}
        moves = min(moves, len(options))
        if self.count(base, moves, reach) <= MOST_NEIGHBOURS:
            chosen = (dict(zip(factors, values, strict=True)) for number in range(1, moves + 1)
                      for factors in combinations(options, number)
                      for values in product(*(options[factor] for factor in factors)))
        else:
            chosen = islice(self._drawn(options, moves, random.Random(f'{seed} {base.name}')), MOST_NEIGHBOURS)
        moved = (base.moved(factors) for factors in chosen)
        return (each for each in moved if each is not None and list(each.dims) == sorted(each.dims))

    def count(self, base: Architecture, moves: int, reach: int) -> int:
        """How many neighbours there are, with those that are then left out."""
        numbers = [len(self._near(factor, base[factor], reach)) for factor in FACTORS]
        return sum(prod(chosen) for number in range(1, moves + 1) for chosen in combinations(filter(None, numbers),
                                                                                             number))

    @staticmethod
    def _drawn(options: Mapping[str, Sequence[float]], moves: int, rng: random.Random) -> Iterator[dict[str, float]]:
        while True:
            factors = rng.sample(list(options), rng.randint(1, moves))
            yield {factor: rng.choice(options[factor]) for factor in factors}

    def _near(self, factor: str, value: float, reach: int) -> tuple[float, ...]:
        """The values of a factor that one move leads to."""
        values = self.values[factor]
        place = bisect_left(values, value)
        above = place + 1 if value in values[place:place + 1] else place
        return values[max(place - reach, 0):place] + values[above:above + reach]


def _expand(name: str) -> list[str]:
    """The factors that a name stands for. Raises :class:`UserError` if there are none."""
    found = [factor for factor in FACTORS if name in (factor, factor[0])]
    if not found:
        raise UserError(f'There is no factor {name!r}: choose of D, N, W (all stages), R, M, E, or of one stage, '
                        'D1 to D4, N1 to N4, W2 to W4.')
    return found


def parse_values(text: str) -> tuple[str, tuple[float, ...]]:
    """``'D=32:448:32'`` (first, last, step), ``'N=1:6'`` (step 1) or ``'W=7,14'`` as factor and values.

    Raises:
        UserError: The factor does not exist, or these are no such values.
    """
    factor, _, listed = text.partition('=')
    kind = _expand(factor)[0][0]
    try:
        if ':' in listed:
            first, last, *step = map(float, listed.split(':'))
            step, = step or (1., )
            count = min(int((last - first) / step + 1e-9) + 1, LARGEST + 1)
            values = tuple(round(first + i * step, 6) for i in range(count))
        else:
            values = tuple(map(float, listed.split(',')))
    except (ValueError, ZeroDivisionError, OverflowError):
        values = ()
    if not values or not all(1 <= value <= LARGEST for value in values) or (
            kind in WHOLE and any(value % 1 for value in values)):
        raise UserError(f'{text!r} gives no values of a factor: write, for example, D=32:448:32, N=1:6, W=7,14 or R=4; '
                        f'all are from 1 to {LARGEST:,}, and those of D, N, W and E are whole numbers.')
    return factor, values
