"""Claim 1: pretraining distillation pays."""
from collections.abc import Iterator, Sequence
from typing import Any

from .arm import Arm, Size
from .claim import Claim, Row, row_of, verdict
from .lab import Lab
from .photos import PHOTOS
from .recipes import Training
from .step import Step

__all__ = ['PRETRAINING']

FEW, OTHERS, ALL = 'the pool\'s classes', 'other classes', 'over epochs'


def rows(lab: Lab) -> Iterator[Row]:
    """Few labels, the length of the training, other classes: one after the other."""
    size = Size.of(lab)
    base, store = size.base, size.store()
    lab.start([store])
    yield from few_labels(lab, size, base, store)
    yield from over_epochs(lab, size, base, store)
    yield from other_classes(lab, size, base, store)


# ---------------------------------------------------------------- on the pool's classes
def few_labels(lab: Lab, size: Size, base: Training, store: Step) -> Iterator[Row]:
    """The pool's classes, of which one in a hundred or one in ten photos has a label."""
    stored, labels = Arm('store', base.with_(store=store)), Arm('labels', base)
    yield from compare(lab, size, FEW, stored, labels, base, size.pool, [(1, 0.01), (10, 0.1)])


def other_classes(lab: Lab, size: Size, base: Training, store: Step) -> Iterator[Row]:
    """The pool has five classes, and the labels are those of the other five."""
    halves = [(('indices', [i for i in size.indices if PHOTOS // 2 * half <= i < PHOTOS // 2 * (half + 1)]), )
              for half in range(2)]
    stored = Arm('store of five', base.with_(store=store, subset=halves[0], classes=(0, 5)))
    labels = Arm('labels of five', base.with_(subset=halves[0], classes=(0, 5)))
    others = base.with_(subset=halves[1], classes=(5, 10), new_head=True)
    yield from compare(lab, size, OTHERS, stored, labels, others, size.pool // 2, [(10, 0.1)])


def compare(lab: Lab, size: Size, group: str, stored: Arm, labels: Arm, base: Training, pool: int,
            shares: Sequence[tuple[int, float]]) -> Iterator[Row]:
    """Pretrained from a store, from labels, or not; then trained with a share of the labels, for equal images in all.
    """
    lab.start([*labels.tries(size.rates), *stored.tries(size.rates)])  # the store may still be in the making
    pretrained = {arm.name: arm.seeds(lab, size.rates, size.seeds) for arm in (labels, stored)}
    own = f'{group}: pretraining' if group == FEW else f'{group}: pretraining, on its own classes'
    yield row_of(own, 'all labels', lab.results(pretrained[labels.name]))
    yield row_of(own, 'store, no labels', lab.results(pretrained[stored.name]))
    seen = size.pretraining * pool
    for percent, share in shares:
        count = round(share * pool)
        short = base.with_(batch_size=25 if count < 200 else 64)
        finetuning = short.with_(epochs=size.finetuning * pool // count, tests=1)
        scratch = short.with_(epochs=(size.pretraining + size.finetuning) * pool // count, new_head=False)
        arms = {
            'store, then finetuned': Arm(f'{stored.name} then {percent}%', finetuning.with_(
                thousand=not base.new_head), pretrained[stored.name], share),
            'all labels, then finetuned': Arm(f'{labels.name} then {percent}%', finetuning,
                                              pretrained[labels.name], share),
            'from scratch': Arm(f'scratch {group} {percent}%', scratch, share=share)}
        if base.new_head:
            for name, start in (('store', stored), ('all labels', labels)):
                arms[f'{name}, then a linear probe'] = Arm(
                    f'{start.name} probe', finetuning.with_(frozen=True), pretrained[start.name], share)
        rates = {name: size.rates if arm.start is None else size.probing_rates if arm.training.frozen else
                 size.finetuning_rates for name, arm in arms.items()}
        for name, arm in arms.items():
            lab.start(arm.tries(rates[name]))
        for name, arm in arms.items():
            yield row_of(f'{group}: {percent} % labelled', name,
                         lab.results(arm.seeds(lab, rates[name], size.seeds)), 0 if arm.start is None else seen)


# ---------------------------------------------------------------- when it overtakes all labels
def over_epochs(lab: Lab, size: Size, base: Training, store: Step) -> Iterator[Row]:
    """Trainings of several lengths: from the store, from all labels, and from the store with a fifth on labels."""
    for student in size.students:
        stored, labels = base.with_(student=student, store=store), base.with_(student=student)

        def arms(epochs: int, stored: Training = stored, labels: Training = labels,
                 student: str = student) -> dict[str, Arm]:
            return {'store, no labels': Arm(f'{student} store {epochs}', stored.with_(epochs=epochs)),
                    'all labels': Arm(f'{student} labels {epochs}', labels.with_(epochs=epochs))}

        shortest = arms(size.lengths[0])
        for arm in shortest.values():
            lab.start(arm.tries(size.rates))
        rates = {name: lab.best(lambda rate, arm=arm: arm.step(rate, 0), size.rates) for name, arm in shortest.items()}
        steps = {(name, epochs): arm.step(rates[name], 0) for epochs in size.lengths
                 for name, arm in arms(epochs).items()}
        before = {epochs: stored.with_(epochs=epochs * 4 // 5, rate=rates['store, no labels']).step(
            f'{student} store {epochs} before labels') for epochs in size.lengths}
        lab.start([*steps.values(), *before.values()])
        for epochs in size.lengths:
            after = Arm(f'{student} store then labels {epochs}', labels.with_(
                epochs=epochs - epochs * 4 // 5, tests=1, thousand=True), [before[epochs]])
            group = f'{ALL}: {student}'
            for name in shortest:
                yield row_of(group, name, lab.results([steps[name, epochs]]), epochs=epochs)
            yield row_of(group, 'store, then all labels', lab.results(after.seeds(lab, size.finetuning_rates, [0])),
                         epochs * 4 // 5 * size.pool, epochs=epochs)


# ---------------------------------------------------------------- what came out
def judge(rows: Sequence[Row]) -> tuple[str, str]:
    """The gains over scratch where labels are few, and the gap to label pretraining."""
    found = {(row.group, row.name): row.mean for row in rows}

    def gain(percent: int, over: str, group: str = FEW) -> float:
        part = f'{group}: {percent} % labelled'
        return found[part, 'store, then finetuned'] - found[part, over]

    one, ten, other = gain(1, 'from scratch'), gain(10, 'from scratch'), gain(10, 'from scratch', OTHERS)
    labels = gain(10, 'all labels, then finetuned', OTHERS)
    effect = (f'{one:+.1f} points over scratch with 1 % of the labels, {ten:+.1f} with 10 %; on other classes '
              f'{other:+.1f} over scratch and {labels:+.1f} over label pretraining; {crossing(rows)}')
    return effect, verdict([one, ten], rows)


def crossing(rows: Sequence[Row]) -> str:
    """From how many epochs on the store alone is better than all labels, for each student."""
    sentences = []
    for group in dict.fromkeys(row.group for row in rows if row.group.startswith(ALL)):
        by_name: dict[str, dict[int, float]] = {}
        for row in rows:
            if row.group == group:
                by_name.setdefault(row.name, {})[dict(row.facts)['epochs']] = row.mean
        ahead = [epochs for epochs, top1 in by_name['store, no labels'].items() if top1 > by_name['all labels'][epochs]]
        student = group.removeprefix(f'{ALL}: ')
        sentences.append(f'the student of {student} from the store is ahead of all labels at '
                         + (f'{", ".join(map(str, ahead))} epochs' if ahead else 'no length measured'))
    return '; '.join(sentences)


def draw(rows: Sequence[Row], axes: Any) -> None:
    """Accuracy over epochs."""
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in rows:
        if row.group.startswith(ALL):
            lines.setdefault((row.group.removeprefix(f'{ALL}: '), row.name), []).append(
                (dict(row.facts)['epochs'], row.mean))
    colours = {'store, no labels': 'C0', 'all labels': 'C1', 'store, then all labels': 'C2'}
    for (student, name), points in lines.items():
        style = '-' if student == next(iter(lines))[0] else '--'
        axes.plot(*zip(*points, strict=True), marker='o', color=colours[name], linestyle=style,
                  label=f'{name}, {student}')
    axes.set(xlabel='epochs over all photos (each point a training of its own)', ylabel='top-1 (%)', xscale='log')


PRETRAINING = Claim(
    name='pretraining',
    title='Pretraining distillation pays',
    question='A store needs no labels. What is a student worth that was pretrained from it, before and after '
             'finetuning on few labels, and when does it overtake one that has all labels?',
    published='TinyViT-21M on ImageNet-1K: 83.1 from scratch, 83.8 after ImageNet-21K labels, 84.8 after distillation '
              '(table 1)',
    setting='Pool: 7,500 photos, a store of 8 views. Students of 0.26 M parameters, 40 epochs; then finetuned on as '
            'many images as 4 epochs have. From scratch: as many images in all, on fresh views.',
    rows=rows, judge=judge, draw=draw)
