"""Claim 7: a better teacher makes a better student."""
from collections.abc import Iterator, Sequence
from typing import Any

from .arm import Arm, Size
from .claim import Claim, Row, row_of, verdict
from .lab import Lab
from .recipes import LITE2, MOBILENETV2, teacher_model

__all__ = ['TEACHERS']


def rows(lab: Lab) -> Iterator[Row]:
    size = Size.of(lab)
    views = min(4, size.views)
    base = size.base.with_(views=views)
    lite2 = size.store()
    random_weights = {name: value for name, value in LITE2.items() if name != 'weights'}
    mobilenet = size.store(teacher_model(MOBILENETV2), title='store of MobileNetV2', views=views)
    control = size.store(teacher_model(random_weights), title='store of random weights', views=views)
    lab.start([mobilenet, control])
    rate = size.stored_rate(lab)
    stores = {'random weights (the control)': [control], 'MobileNetV2': [mobilenet], 'Lite2': [lite2],
              'both, the mean of two stores': [lite2, mobilenet]}
    steps = {name: Arm(f'teacher {name}', base.with_(store=first, more_stores=tuple(more))).step(rate, 0)
             for name, (first, *more) in stores.items()}
    lab.start(list(steps.values()))
    for name, step in steps.items():
        saved = lab.results(stores[name])
        facts = {'teacher (%)': round(saved[0]['teacher_ten'], 1)} if len(saved) == 1 else {}
        yield row_of('', name, lab.results([step]), **facts)


def judge(rows: Sequence[Row]) -> tuple[str, str]:
    control, weak, strong, both = rows
    effect = (f'MobileNetV2 {weak.mean:.1f}, Lite2 {strong.mean:.1f}, both {both.mean:.1f}, random weights '
              f'{control.mean:.1f}')
    return effect, verdict([strong.mean - weak.mean], rows)


def draw(rows: Sequence[Row], axes: Any) -> None:
    axes.barh([row.name for row in rows], [row.mean for row in rows])
    axes.set(xlabel='top-1 of the student (%)')


TEACHERS = Claim(
    name='teachers',
    title='A better teacher makes a better student',
    question='What does the teacher\'s own accuracy mean for the student\'s, and what do two teachers give together?',
    published='Student without a teacher 83.8; with BEiT-L (84.1) 84.1, Swin-L (84.4) 84.2, CLIP-L/14 (85.2) 84.8, '
              'Florence (86.2) 84.8 (table 3).',
    setting='40 epochs from stores of 4 views, one for each teacher; an ensemble is two stores, read together. The '
            'teacher\'s accuracy is that over the ten classes on view 0 of the training photos. One seed.',
    rows=rows, judge=judge, draw=draw)
