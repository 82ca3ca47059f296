"""Claim 7: a better teacher makes a better student."""
from collections.abc import Iterator, Sequence
from typing import Any

from .arm import Arm, Size
from .claim import Claim, Gain, Row, row_of, verdict
from .lab import Lab
from .recipes import LITE2, MOBILENETV2, try_teacher

__all__ = ['TEACHERS']


def rows(lab: Lab) -> Iterator[Row]:
    size = Size.of(lab)
    views = min(4, size.views)
    base = size.base.with_(views=views)
    random_weights = {name: value for name, value in LITE2.items() if name != 'weights'}
    models = {'random weights (the control)': [size.teacher(random_weights)],
              'MobileNetV2': [size.teacher(MOBILENETV2)], 'Lite2': [size.teacher()]}
    stores = {name: [size.store()] if name == 'Lite2' else
              [size.store(*teachers, title=f'store of {name}', views=views)] for name, teachers in models.items()}
    both = 'both, the mean of two stores'
    models[both], stores[both] = models['Lite2'] + models['MobileNetV2'], stores['Lite2'] + stores['MobileNetV2']
    tests = {name: try_teacher(f'teacher {name}', teachers, size.test_every) for name, teachers in models.items()}
    lab.start([*(store for each in stores.values() for store in each), *tests.values()])
    rate = size.stored_rate(lab)
    steps = {name: Arm(f'student of {name}', base.with_(store=first, more_stores=tuple(more))).step(rate, 0)
             for name, (first, *more) in stores.items()}
    lab.start(list(steps.values()))
    for name, step in steps.items():
        facts = {'teacher (%)': round(lab.results([tests[name]])[0]['top1'], 1)}
        if len(stores[name]) == 1:
            facts['on stored views (%)'] = round(lab.results(stores[name])[0]['teacher_top1'], 1)
        yield row_of('', name, lab.results([step]), **facts)


def judge(rows: Sequence[Row]) -> tuple[str, str]:
    control, weak, strong, both = rows
    effect = (f'MobileNetV2 {weak.mean:.1f}, Lite2 {strong.mean:.1f}, both {both.mean:.1f}, random weights '
              f'{control.mean:.1f}')
    return effect, verdict([Gain(strong, weak), Gain(weak, control)])


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
            'teacher\'s accuracy is over the same photos as the student\'s, of 64 pixels, enlarged to 160, among the '
            'ten classes. On stored views: among its 1,000. One seed.',
    rows=rows, judge=judge, draw=draw)
