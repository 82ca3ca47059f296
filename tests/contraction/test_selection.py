"""What is trained lies on the Pareto fronts of size, compute and speed, and evenly."""
import random

from mmtinyvit.contraction.architecture import Architecture
from mmtinyvit.contraction.selection import Candidate, pareto_front, spread

BASE = Architecture.parse('d8-16-24-32_n1-1-2-1_w4-2-1_r4_m4_e8')


def candidate(parameters: int, images_per_s: float, macs: int = 0) -> Candidate:
    return Candidate(BASE.moved({'N1': 1 + parameters, 'N2': 1 + macs}), BASE.name, parameters, macs, images_per_s)


def sizes(candidates: list[Candidate]) -> list[tuple[int, float]]:
    return [(each.parameters, each.images_per_s) for each in candidates]


def test_the_front():
    points = [(1, 9.), (2, 8.), (2, 7.), (3, 5.), (3, 4.), (4, 5.), (1, 1.)]
    assert sizes(pareto_front([candidate(*point) for point in points])) == [(4, 5.), (2, 8.), (1, 9.)]


def test_the_front_is_that_of_a_comparison_of_all_pairs():
    rng = random.Random(0)
    drawn = [candidate(rng.randrange(30), float(rng.randrange(30)), rng.randrange(30)) for _ in range(90)]
    expected = {a for a in drawn if not any(
        b.parameters >= a.parameters and b.images_per_s >= a.images_per_s and b.macs >= a.macs
        and (b.parameters > a.parameters or b.images_per_s > a.images_per_s or b.macs > a.macs) for b in drawn)}
    front = pareto_front(drawn)
    assert set(front) == expected and len(front) == len(expected) > 5
    assert [each.images_per_s for each in front] == sorted(each.images_per_s for each in front)


def test_what_computes_more_at_the_same_size_is_not_behind():
    """Near the limit of throughput are students that use it; those that are faster than need be are not all."""
    drawn = [candidate(5, 100. - macs, macs) for macs in range(50)]
    assert [each.macs for each in spread(drawn, 3)] == [49, 25, 0]


def test_fronts_one_behind_the_other_and_the_last_evenly():
    first = [candidate(i, 100. - i) for i in range(3)]
    second = [candidate(10 + i, 50. - i) for i in range(9)]  # larger and slower than the first: one front with it
    behind = [candidate(i, 20. - i) for i in range(3)]
    assert sizes(spread([*behind, *second, *first], 20))[-3:] == sizes(behind[::-1])
    chosen = sizes(spread([*behind, *second], 5))
    assert chosen == [(18, 42.), (16, 44.), (14, 46.), (12, 48.), (10, 50.)]
    assert len(spread(first, 1)) == 1 and spread([], 3) == []
