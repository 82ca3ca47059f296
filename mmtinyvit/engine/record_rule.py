"""RecordRule: which entries of a teacher's distribution a record keeps."""
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mmtinyvit.datasets.seeding import derive_seed
from mmtinyvit.errors import UserError
from mmtinyvit.store import Record

__all__ = ['RecordRule', 'draw_entries', 'keep_entries', 'sparsify']

_NOTHING = 1e-12  # the probability of an entry that only fills a record up


class RecordRule:
    """The top K, as many of them as hold a mass, or a sample.

    Args:
        topk: K, the entries of a record.
        keep_mass: Keep only the most probable classes that together hold this mass, at most K; the others join the
            tail. None keeps K.
        sampling: ``dict(draws=N, power=t)`` draws N classes instead, see :func:`draw_entries`; ``power`` is 1 if left
            out.

    Raises:
        UserError: A value is out of range, or both are given.
    """

    def __init__(self, topk: int, keep_mass: float | None = None, sampling: Mapping | None = None) -> None:
        if not isinstance(topk, int):
            raise UserError(f'topk={topk!r} is no whole number: set topk to the entries of a record.')
        self.topk, self.keep_mass, self.draws, self.power = topk, keep_mass, None, 1.0
        if keep_mass is not None and not 0 < keep_mass < 1:
            raise UserError(f'keep_mass={keep_mass!r} must lie between 0 and 1, for example 0.99.')
        if sampling is None:
            return
        if keep_mass is not None:
            raise UserError('keep_mass shortens the top K, and sampling has no top K: give one of them.')
        if set(sampling) - {'draws', 'power'} or 'draws' not in sampling:
            raise UserError(f'sampling={dict(sampling)} must have draws, and may have power, as in dict(draws=50, '
                            'power=1.0).')
        self.draws, self.power = sampling['draws'], float(sampling.get('power', 1.0))
        if type(self.draws) is not int or not 1 <= self.draws <= topk:
            raise UserError(f'{self.draws!r} draws may name as many classes, and a record has topk={topk} entries: set '
                            'draws to a whole number from 1 to topk.')
        if not 0 < self.power <= 4:
            raise UserError(f'power={self.power} of sampling must lie above 0 and be at most 4; 1 draws classes as '
                            'often as they are probable.')

    def identity(self) -> dict:
        """What a manifest says about it, under ``records``; empty for the top K."""
        if self.draws is not None:
            return dict(records=dict(sampling=dict(draws=self.draws, power=self.power)))
        return {} if self.keep_mass is None else dict(records=dict(keep_mass=self.keep_mass))

    def __call__(self, logits: Tensor, base_seed: int, view: int, keys: Sequence[str]) -> Record:
        """The records of a batch, ``B`` rows as :func:`sparsify` gives them.

        Args:
            logits: ``(B, C)``, any float type.
            base_seed, view, keys: The views' names, which seed the draws.
        """
        if self.draws is None:
            record = sparsify(logits, self.topk)
            return record if self.keep_mass is None else keep_entries(record, logits.shape[1], self.keep_mass)
        seeds = [derive_seed(base_seed, view, f'{key}\ndraws') for key in keys]  # no key has a line break
        return draw_entries(logits, seeds, self.draws, self.power, self.topk)


def sparsify(logits: Tensor, topk: int) -> Record:
    """The top K classes of a batch and the mass of all others.

    Args:
        logits: ``(B, C)``, any float type; the softmax is computed in float32 on the logits' device.
        topk: K.

    Returns:
        Record: Index ``(B, K)`` int32, the most probable class first, log-probability ``(B, K)`` float32 and tail mass
        ``(B,)`` float32, on the host.
    """
    log_prob, index = logits.float().log_softmax(1).topk(topk, dim=1)
    tail = (1 - log_prob.exp().sum(1)).clamp_(min=0) if topk < logits.shape[1] else log_prob.new_zeros(len(logits))
    return Record(index.int().cpu().numpy(), log_prob.cpu().numpy(), tail.cpu().numpy())


def keep_entries(record: Record, num_classes: int, mass: float) -> Record:
    """Lets entries beyond a mass say no more than the tail does.

    They get the mean probability of all classes that are not kept, which is what the loss recovers for the classes of
    the tail. So the target is that of a shorter record, and the arrays keep their shape.

    Args:
        record: ``B`` rows, the most probable class first.
        num_classes: C.
        mass: How much the kept classes hold together, at least, if K of them do.
    """
    index, log_prob, tail_mass, _ = record
    prob = np.exp(log_prob.astype(np.float64))
    kept = prob.cumsum(axis=1) - prob < mass
    kept[:, 0] = True
    count = kept.sum(axis=1)
    rest = tail_mass.astype(np.float64) + np.where(kept, 0, prob).sum(axis=1)
    share = rest / np.maximum(num_classes - count, 1)
    least = np.log(np.maximum(share, _NOTHING))[:, None]
    tail = share * (num_classes - index.shape[1])
    return Record(index, np.where(kept, log_prob, least).astype(np.float32), tail.astype(np.float32))


def draw_entries(logits: Tensor, seeds: Sequence[int], draws: int, power: float, topk: int) -> Record:
    """Draws classes instead of taking the largest: the mean over many seeds is the teacher's distribution.

    ``draws`` classes are drawn with replacement from q ~ p**power, and each draw of class c adds p_c / q_c, scaled to
    a sum of one. With power 1 that is how often c was drawn, over the draws, and no class is favoured; with another
    power the scaling favours some by an amount that shrinks with the number of draws. Nothing is left for a tail.
    What a record has too many entries is filled with classes of negligible mass.

    Source: "random sampling knowledge distillation" of Anshumann et al., Sparse Logit Sampling: Accelerating Knowledge
    Distillation in LLMs, ACL 2025.

    Args:
        logits: ``(B, C)``, any float type.
        seeds: One per row.
        draws: How many.
        power: t.
        topk: K, the entries of a record, at least ``draws``.
    """
    log_prob = logits.float().log_softmax(1).double()
    steps = (power * log_prob).softmax(1).cumsum(1)  # (B, C)
    dice = np.stack([np.random.RandomState(np.random.PCG64(seed)).random_sample(draws) for seed in seeds])
    points = torch.from_numpy(dice).to(steps.device) * steps[:, -1:]
    drawn = torch.searchsorted(steps, points, right=True).clamp_(max=logits.shape[1] - 1)  # (B, N)
    value = log_prob.gather(1, drawn).cpu().numpy()
    index = np.empty((len(seeds), topk), np.int32)
    found = np.full((len(seeds), topk), np.log(_NOTHING))
    for row, classes in enumerate(drawn.cpu().numpy()):
        classes, first, count = np.unique(classes, return_index=True, return_counts=True)
        weight = np.log(count) + (1 - power) * value[row, first]
        order = np.lexsort((-value[row, first], -weight))
        number = len(classes)
        index[row, :number], found[row, :number] = classes[order], (weight - np.logaddexp.reduce(weight))[order]
        index[row, number:] = np.setdiff1d(np.arange(min(topk + number, logits.shape[1])), classes)[:topk - number]
    return Record(index, found.astype(np.float32), np.zeros(len(seeds), np.float32))
