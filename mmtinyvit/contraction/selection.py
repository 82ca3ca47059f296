"""Which of the legal candidates are trained: some that are spread over the Pareto front of size and speed."""
from collections.abc import Sequence
from dataclasses import dataclass

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
    """Those of which no other has at least as many parameters and as much throughput, and more of one.

    Below a limit of parameters, more of them are what a student may learn more with. Ordered by throughput.
    """
    front, most = [], -1
    for each in sorted(candidates, key=lambda each: (-each.images_per_s, -each.parameters, each.name)):
        if each.parameters > most:
            front.append(each)
            most = each.parameters
    return front[::-1]


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
