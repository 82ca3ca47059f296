"""TeacherRecord: what a store says about a batch."""
import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ['TeacherRecord', 'recovered_target', 'teacher_class']


class TeacherRecord(NamedTuple):
    """The stored answers of a teacher for B images.

    Attributes:
        index: Stored classes, ``(B, K)`` int64.
        log_prob: Their log-probabilities, ``(B, K)``.
        tail_mass: Probability of all other classes together, ``(B,)``.
    """
    index: Tensor
    log_prob: Tensor
    tail_mass: Tensor


def recovered_target(log_prob: Tensor, tail_mass: Tensor, others: int, temperature: float) -> tuple[Tensor, Tensor]:
    """The distribution that a record stands for, flattened by a temperature.

    It is p_k on the K stored classes and the tail mass spread evenly on the others; a temperature raises each
    probability to the power of its inverse and makes the sum 1 again.

    Args:
        log_prob: Log-probabilities of the stored classes, ``(B, K)``.
        tail_mass: Probability of all other classes together, ``(B,)``.
        others: How many other classes there are, C - K.
        temperature: Above 0; 1 changes nothing.

    Returns:
        tuple: Probability of each stored class ``(B, K)``, and of each other class ``(B,)``, 0 if there is none.
    """
    if temperature == 1:
        prob, rest = log_prob.exp(), tail_mass / max(others, 1)
    else:
        log_rest = (tail_mass / max(others, 1)).log() / temperature  # (B,)
        scaled = torch.cat([log_prob / temperature, log_rest[:, None] + math.log(max(others, 1))], 1)
        scaled = scaled.log_softmax(1)  # (B, K + 1)
        prob, rest = scaled[:, :-1].exp(), scaled[:, -1].exp() / max(others, 1)
    return prob, rest if others else torch.zeros_like(rest)


def teacher_class(teacher: Tensor | TeacherRecord) -> Tensor:
    """The first class of a teacher, ``(B,)`` int64, from its logits ``(B, C)`` or its record."""
    if isinstance(teacher, TeacherRecord):
        return teacher.index.gather(1, teacher.log_prob.argmax(1, keepdim=True))[:, 0]
    return teacher.argmax(1)
