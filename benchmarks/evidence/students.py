"""Claims 8 and 13: other students, and what distillation buys at equal speed."""
from collections.abc import Iterator, Sequence
from typing import Any

from .arm import LABELS, STORED, Arm, Size, best_rate, rate_tries
from .claim import Claim, Gain, Row, between, row_of, verdict
from .lab import Lab
from .networks import FAMILY, TIMM, network
from .recipes import Training
from .step import Step

__all__ = ['DEPLOYMENT', 'OTHER_STUDENTS']

SPEED = 'images/s'


def speeds(lab: Lab, names: Sequence[str]) -> Step:
    """The step that counts each network's parameters, with a head of ten classes, and its images per second."""
    models = {name: network(name, 10) for name in names}
    step = Step.of(f'speed of {len(names)} networks', dict(
        speed=dict(models=models, batch=8 if lab.quick else 64, repeats=1 if lab.quick else 9),
        modules=sorted({FAMILY[name]['module'] for name in names if name in FAMILY})))
    lab.start([step])
    return step


def row(group: str, name: str, lab: Lab, step: Step, speed: Step, student: str) -> Row:
    """A row with parameters and speed beside the accuracy."""
    network = lab.results([speed])[0]
    return row_of(group, name, lab.results([step]), parameters=network['parameters'][student],
                  **{SPEED: round(network['images_per_second'][student])})


# ---------------------------------------------------------------- other students
def student_rows(lab: Lab) -> Iterator[Row]:
    size = Size.of(lab)
    base = size.base.with_(epochs=size.lengths[0])
    ways = {STORED: base.with_(store=size.store()), LABELS: base}
    names = [size.students[-1], *(['TopFormer-T', next(iter(TIMM))] if lab.quick else [*FAMILY, *TIMM])]
    speed = speeds(lab, names)
    arms = {(name, way): Arm(f'{name} {way}', training.with_(student=name))
            for name in names for way, training in ways.items()}
    for arm in arms.values():
        lab.start(arm.tries(size.rates))
    for (name, way), arm in arms.items():
        step = arm.step(lab.best(lambda rate, arm=arm: arm.step(rate, 0), size.rates), 0)
        yield row(way, name if name in FAMILY or name in TIMM else f'TinyViT {name}', lab, step, speed, name)


def judge_students(rows: Sequence[Row]) -> tuple[str, str]:
    stored = {each.name: each for each in rows if each.group == STORED}
    gains = [Gain(stored[each.name], each) for each in rows if each.group == LABELS]
    return f'store over labels: {between(gains)}, {len(gains)} networks', verdict(gains)


def draw_students(rows: Sequence[Row], axes: Any) -> None:
    names = list(dict.fromkeys(each.name for each in rows))
    for shift, way in ((-.2, STORED), (.2, LABELS)):
        top1 = {each.name: each.mean for each in rows if each.group == way}
        axes.barh([names.index(name) + shift for name in top1], top1.values(), height=.4, label=way)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel='top-1 (%)')


OTHER_STUDENTS = Claim(
    name='students',
    title='Other students gain too',
    question='Is a store worth as much to networks that are no TinyViT?',
    published='From scratch, after ImageNet-21K labels, after distillation: DeiT-Ti 72.2, 73.0, 74.4; DeiT-S 79.9, '
              '80.5, 82.0; Swin-T 81.2, 81.9, 83.4 (table 2).',
    setting='10 epochs over all photos for the networks of `projects/` and two of timm, from the store of 8 views and '
            'from all labels on fresh views, each at the better of two learning rates. One seed. '
            'Images/s: one core, batches of 64, eager PyTorch.',
    rows=student_rows, judge=judge_students, draw=draw_students)


# ---------------------------------------------------------------- deployment
def deployment_rows(lab: Lab) -> Iterator[Row]:
    size = Size.of(lab)
    names = ['tiny', '0.08 M'] if lab.quick else ['0.08 M', '0.26 M', '0.86 M']
    speed = speeds(lab, names)
    ways: dict[tuple[str, str], Training] = {
        (way, name): training.with_(student=name) for name in names
        for way, training in ((STORED, size.base.with_(store=size.store())), (LABELS, size.base))}
    for (way, name), training in ways.items():
        lab.start(rate_tries(size, training, f'{name} {way}').tries(size.rates))
    steps = {(way, name): Arm(f'{name} {way}', training).step(best_rate(lab, size, training, f'{name} {way}'), 0)
             for (way, name), training in ways.items()}
    lab.start(list(steps.values()))
    for (way, name), step in steps.items():
        yield row('', f'{name}, {way}', lab, step, speed, name)


def judge_deployment(rows: Sequence[Row]) -> tuple[str, str]:
    labels = {each.name.removesuffix(LABELS): each for each in rows if each.name.endswith(LABELS)}
    gains, sentences = [], []
    for each in rows:
        if each.name.endswith(STORED):
            gains.append(Gain(each, labels[each.name.removesuffix(STORED)]))
            sentences.append(f'{gains[-1]} at {dict(each.facts)[SPEED]:,} images/s')
    return 'store over labels: ' + ', '.join(sentences), verdict(gains)


def draw_deployment(rows: Sequence[Row], axes: Any) -> None:
    for way in (STORED, LABELS):
        points = sorted((dict(each.facts)[SPEED], each.mean) for each in rows if each.name.endswith(way))
        axes.plot(*zip(*points, strict=True), marker='o', label=way)
    axes.set(xlabel='images/s on one core', ylabel='top-1 (%)', xscale='log')
    axes.minorticks_off()
    measured = sorted({dict(each.facts)[SPEED] for each in rows})
    axes.set_xticks(measured, [f'{value:,}' for value in measured])


DEPLOYMENT = Claim(
    name='deployment',
    title='Distillation buys accuracy at equal speed',
    question='A student that was distilled is no slower than one that was not. What is the store worth at each speed?',
    published='5M, 3,060 images/s on a V100: distilled 80.7, from ImageNet-21K labels 79.6; 21M, 1,571 images/s: 84.8 '
              'and 83.8 (figure 4).',
    setting='TinyViT in three sizes, named by the parameters of the backbone, 40 epochs from the store of 8 views and '
            'from all labels on fresh views, at learning rates of their own. One seed. Images/s: one '
            'core, batches of 64, eager PyTorch, layers fused.',
    rows=deployment_rows, judge=judge_deployment, draw=draw_deployment)
