"""Which legal candidates are trained: some that are spread over the Pareto front of size, compute and speed."""
from collections.abc import Sequence
from dataclasses import dataclass
from operator import ge

from .architecture import Architecture

__all__ = ['Candidate', 'pareto_front', 'spread']


@dataclass(frozen=True)
class Candidate:
    """An architecture and what it costs.

    Args:
        base: Short name of the architecture that it is a neighbour of.
        macs: Multiply-accumulates for one image.
        images_per_s: On the target device.
    """
    architecture: Architecture
    base: str
    parameters: int
    macs: int
    images_per_s: float

    @property
    def name(self) -> str:
        return self.architecture.name


def pareto_front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those of which no other has at least as many parameters and MACs and as much throughput, and more of one.

    Within the limits, parameters and MACs are what a student may learn more with: without the latter, only the fastest
    would be left, which compute least. Ordered by throughput.
    """
    worth = {each: (each.parameters, each.macs, each.images_per_s) for each in candidates}
    front = [each for each, ours in worth.items() if not any(
        theirs != ours and all(map(ge, theirs, ours)) for theirs in worth.values())]
    return sorted(front, key=lambda each: (each.images_per_s, each.parameters, each.name))


def spread(candidates: Sequence[Candidate], number: int) -> list[Candidate]:
    """Up to ``number`` of them: whole Pareto fronts, one behind the other, and of the last an even choice."""
    chosen, left = [], list(candidates)
    while left and len(chosen) < number:
        front = pareto_front(left)
        left = [each for each in left if each not in front]
        room = number - len(chosen)
        if len(front) > room:
            places = [round(i * (len(front) - 1) / max(room - 1, 1)) for i in range(room)]
            front = [front[place] for place in places]
        chosen += front
    return chosen
