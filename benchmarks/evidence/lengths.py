"""Claim 1, over the length of the training: when a student from a store overtakes one that has all labels."""
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .arm import LABELS, STORED, Arm, Size, best_rate
from .claim import Claim, Gain, Row, row_of, verdict
from .lab import Lab
from .recipes import Training
from .step import Step

__all__ = ['LENGTHS', 'crossing_of']

BOTH = 'store, then all labels'
EPOCHS, STRONG = 'over epochs: ', 'stronger augmentation'


def rows(lab: Lab) -> Iterator[Row]:
    """Each length, then with the last fifth from labels, then with more views that are augmented more."""
    size = Size.of(lab)
    base, store = size.base, size.store()
    lab.start([store])
    yield from over_epochs(lab, size, base, store)
    yield from then_all_labels(lab, size, base, store)
    yield from stronger(lab, size, base)


def over_epochs(lab: Lab, size: Size, base: Training, store: Step) -> Iterator[Row]:
    """Trainings of several lengths, from the store and from all labels."""
    steps = {}
    for student in size.students:
        labels = base.with_(student=student)
        for name, training in ((STORED, labels.with_(store=store)), (LABELS, labels)):
            rate = best_rate(lab, size, training, f'{student} {name}')
            for epochs in size.lengths:
                steps[student, name, epochs] = Arm(f'{student} {name}, {epochs} epochs', training.with_(
                    epochs=epochs)).step(rate, 0)
    lab.start(list(steps.values()))
    for (student, name, epochs), step in steps.items():
        yield row_of(EPOCHS + student, name, lab.results([step]), epochs=epochs)


def then_all_labels(lab: Lab, size: Size, base: Training, store: Step) -> Iterator[Row]:
    """As long, the first student: four fifths of the epochs from the store, and the last fifth from all labels."""
    before = {epochs: epochs * 4 // 5 for epochs in size.lengths}
    stored = base.with_(store=store, rate=size.stored_rate(lab))
    arms = {epochs: Arm(f'store then labels, {epochs} epochs', base.with_(
        epochs=epochs - before[epochs], tests=1, thousand=True), [stored.with_(epochs=before[epochs]).step(
            f'store before labels, {epochs} epochs')]) for epochs in size.lengths}
    shortest = arms[size.lengths[0]]
    rate = lab.best(lambda rate: shortest.step(rate, 0), size.finetuning_rates)
    steps = {epochs: arm.step(rate, 0) for epochs, arm in arms.items()}
    lab.start(list(steps.values()))
    for epochs, step in steps.items():
        yield row_of(EPOCHS + size.students[0], BOTH, lab.results([step]), before[epochs] * size.pool, epochs=epochs)


def stronger(lab: Lab, size: Size, base: Training) -> Iterator[Row]:
    """Twice as many views, which are augmented more: from their store, and from all labels on views like them."""
    views = 2 * size.views
    store = size.store(title='store of strong views', views=views, strong=True)
    for name, training in ((STORED, base.with_(store=store, strong=True)), (LABELS, base.with_(strong=True))):
        rate = size.label_rate(lab) if training.store is None else size.stored_rate(lab)
        yield row_of(STRONG, name, lab.results([Arm(f'{name}, strong', training).step(rate, 0)]),
                     views='fresh' if training.store is None else views, epochs=size.pretraining)


# ---------------------------------------------------------------- what came out
def judge(rows: Sequence[Row]) -> tuple[str, str]:
    """By the longest trainings of each student."""
    longest = max(dict(row.facts)['epochs'] for row in rows)
    found = {(row.group, row.name): row for row in rows
             if row.group == STRONG or dict(row.facts)['epochs'] == longest}
    gains, sentences = [], []
    for student, by_name in lines_of(rows).items():
        gains.append(Gain(found[EPOCHS + student, STORED], found[EPOCHS + student, LABELS]))
        sentences.append(f'{student}: {gains[-1]} over all labels after {longest} epochs, {crossing(by_name)}')
        if BOTH in by_name:
            both = Gain(found[EPOCHS + student, BOTH], found[EPOCHS + student, LABELS])
            sentences[-1] += f'; with the last fifth from labels {both}'
    sentences.append(f'with stronger augmentation {Gain(found[STRONG, STORED], found[STRONG, LABELS])}')
    return '; '.join(sentences), verdict(gains)


def lines_of(rows: Sequence[Row]) -> dict[str, dict[str, dict[int, float]]]:
    """Accuracy by student, what it learned from, and epochs."""
    lines: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        if row.group.startswith(EPOCHS):
            student = lines.setdefault(row.group.removeprefix(EPOCHS), {})
            student.setdefault(row.name, {})[dict(row.facts)['epochs']] = row.mean
    return lines


def crossing_of(stored: dict[int, float], labels: dict[int, float]) -> float | None:
    """The epochs from which on the store is ahead, between two lengths by a line over their logarithm; 0 if it always
    is, None if it is not at the longest."""
    gaps = [(epochs, stored[epochs] - labels[epochs]) for epochs in sorted(stored)]
    if gaps[-1][1] <= 0:
        return None
    behind = [i for i, (_, gap) in enumerate(gaps) if gap <= 0]
    if not behind:
        return 0.
    (low, below), (high, above) = gaps[behind[-1]:behind[-1] + 2]
    return math.exp(math.log(low) + math.log(high / low) * -below / (above - below))


def crossing(by_name: Mapping[str, dict[int, float]]) -> str:
    """Where the store alone overtakes all labels, in words."""
    point = crossing_of(by_name[STORED], by_name[LABELS])
    if point is None:
        return 'no crossing'
    return f'ahead from about {point:.0f} epochs on' if point else 'ahead at every length'


def draw(rows: Sequence[Row], axes: Any) -> None:
    """Accuracy over epochs, with the points where the store overtakes all labels, and the same in words."""
    colours, lines = {STORED: 'C0', LABELS: 'C1', BOTH: 'C2'}, lines_of(rows)
    for number, (student, by_name) in enumerate(lines.items()):
        for name, points in by_name.items():
            axes.plot(points.keys(), points.values(), marker='o', color=colours[name],
                      linestyle='--' if number else '-', label=f'{name}, {student}')
        point = crossing_of(by_name[STORED], by_name[LABELS])
        if point:
            axes.axvline(point, color='gray', linestyle=':', label=f'crossing, {student}: {point:.0f} epochs')
    axes.set(xlabel='epochs over all photos (each point a training of its own)', ylabel='top-1 (%)', xscale='log')
    epochs = sorted({dict(row.facts)['epochs'] for row in rows})
    axes.set_xticks(epochs, epochs)
    axes.minorticks_off()
    axes.set_title('\n'.join(f'{student}, store over all labels: {crossing(by_name)}'
                             for student, by_name in lines.items()), fontsize=8)


LENGTHS = Claim(
    name='lengths',
    title='A long training overtakes all labels',
    question='After how many epochs is a student from a store, which needs no labels, ahead of one that learns from '
             'all of them?',
    published='At every length. 5M, 280 to 1,400 million images of IN-21k seen: distilled 78.3 to 80.7, plain 77.2 to '
              '79.6; 21M: 82.3 to 84.8 and 81.5 to 83.8 (figure 4).',
    setting='10, 40 and 100 epochs over all photos, from the store of 8 views and from all labels on fresh views, for '
            'two sizes of the student; each length is a training of its own with its own schedule. Once more, with '
            'four fifths of the epochs from the store and the last fifth from all labels. And 40 epochs with 16 views '
            'of more augmentation. One seed.',
    rows=rows, judge=judge, draw=draw)
