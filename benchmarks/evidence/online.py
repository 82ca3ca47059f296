"""Claim 5: what a store gives is what the teacher beside the student gives."""
from collections.abc import Iterator, Sequence

from .arm import Arm, Size
from .claim import VERDICTS, Claim, Gain, Row, row_of
from .lab import Lab

__all__ = ['ONLINE']

STORED, ROUNDED, EXACT = 'stored', 'beside the student, rounded alike', 'beside the student, exact'
SECONDS = 'core seconds'


def rows(lab: Lab) -> Iterator[Row]:
    size = Size.of(lab)
    store, rate = size.store(), size.stored_rate(lab)
    base = size.base.with_(epochs=size.views, tests=1, timed=True,
                           subset=(*size.subset, ('share', 0.5), ('share_seed', 0)))
    beside = base.with_(online=size.teacher())
    arms = {STORED: base.with_(store=store), ROUNDED: beside, EXACT: beside.with_(codec='exact')}
    steps = {name: [Arm(f'teacher {name}', training).step(rate, seed) for seed in (
        size.seeds[:1] if name == ROUNDED else size.seeds)] for name, training in arms.items()}
    for each in steps.values():
        lab.start(each)
    for name, each in steps.items():
        found = lab.results(each)
        yield row_of('', name, found, **{SECONDS: round(sum(one['cpu_seconds'] for one in found) / len(found))})


def judge(rows: Sequence[Row]) -> tuple[str, str]:
    stored, rounded, exact = rows
    gaps = [abs(one - other) for one, other in zip(stored.top1, exact.top1, strict=True)]
    gap = Gain(stored, exact)
    times = dict(exact.facts)[SECONDS] / max(dict(stored.facts)[SECONDS], 1)
    effect = (f'stored {stored.mean:.1f}, beside the student {exact.mean:.1f}: {gap} points (largest gap of one '
              f'seed {max(gaps):.1f}; seeds are {gap.noise:.1f} apart), {stored.top1[0] - rounded.top1[0]:+.1f} with '
              f'the same rounding; the teacher beside the student takes {times:.1f} times the core seconds')
    return effect, VERDICTS[abs(gap.points) > gap.noise]


ONLINE = Claim(
    name='online',
    title='A store gives what the teacher gives',
    question='Does a student lose anything if the teacher\'s answers are stored, rounded to a few bytes, and not '
             'asked for anew?',
    published='No accuracy of a student with the teacher beside it. It takes 1.7 to 2.4 times the GPU hours (table 3).',
    setting='Half of the photos, 8 epochs: the 8 stored views, or the same views about which the teacher is asked '
            'beside the student, with the stored 10 classes. The codec `compact` rounds what is stored; beside the '
            'student it is `exact`, and for one seed rounded alike. Same seed, same batches. Core seconds: of one '
            'training alone, with every view made anew.',
    rows=rows, judge=judge)
