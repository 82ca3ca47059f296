"""Claim 1: pretraining distillation pays."""
from collections.abc import Iterator, Sequence

from .arm import LABELS, STORED, Arm, Size
from .claim import VERDICTS, Claim, Gain, Row, row_of
from .lab import Lab
from .photos import PHOTOS
from .recipes import Training
from .step import Step

__all__ = ['PRETRAINING', 'finetuning_on', 'five_classes']

FEW, OTHERS = 'the pool\'s classes', 'other classes'
AIMS = {1: 20., 10: 5.}  # points over scratch, by the percentage of labels


def rows(lab: Lab) -> Iterator[Row]:
    """The pool's classes, then other classes."""
    size = Size.of(lab)
    base, store = size.base, size.store()
    lab.start([store])
    yield from few_labels(lab, size, base, store)
    yield from other_classes(lab, size, base, store)


# ---------------------------------------------------------------- on the pool's classes
def few_labels(lab: Lab, size: Size, base: Training, store: Step) -> Iterator[Row]:
    """The pool's classes, of which one in a hundred or one in ten photos has a label."""
    stored, labels = Arm('store', base.with_(store=store)), Arm('labels', base)
    lab.start([*labels.tries(size.rates), *stored.tries(size.rates)])  # the store may still be in the making
    yield from compare(lab, size, FEW, stored, labels, base, size.pool, [(1, size.share(0.01)), (10, size.share(0.1))])
    same = Arm('label_weight 1.0', base.with_(store=store, label_weight=1.))
    yield row_of(f'{FEW}: pretraining', 'all labels, on the views of the store',
                 lab.results(same.seeds(lab, [size.stored_rate(lab)], size.seeds)))


def other_classes(lab: Lab, size: Size, base: Training, store: Step) -> Iterator[Row]:
    """The pool has five classes, and the labels are those of the other five."""
    stored, labels, others = five_classes(size, base, store)
    yield from compare(lab, size, OTHERS, stored, labels, others, size.pool // 2, [(10, size.share(0.1))])


def five_classes(size: Size, base: Training, store: Step) -> tuple[Arm, Arm, Training]:
    """Pretraining on the first five classes from the store and from labels, and a training on the other five."""
    halves = [(('indices', [i for i in size.indices if PHOTOS // 2 * half <= i < PHOTOS // 2 * (half + 1)]), )
              for half in range(2)]
    stored = Arm('store of five', base.with_(store=store, subset=halves[0], classes=(0, 5)))
    labels = Arm('labels of five', base.with_(subset=halves[0], classes=(0, 5)))
    return stored, labels, base.with_(subset=halves[1], classes=(5, 10), new_head=True)


def finetuning_on(count: int, size: Size, base: Training, pool: int) -> Training:
    """A short training on ``count`` labelled photos of a pool."""
    return base.with_(batch_size=25 if count < 200 else 64, epochs=size.finetuning * pool // count, tests=1)


def compare(lab: Lab, size: Size, group: str, stored: Arm, labels: Arm, base: Training, pool: int,
            shares: Sequence[tuple[int, float]]) -> Iterator[Row]:
    """Pretrained from a store, from labels, or not; then trained with a share of the labels, for equal images in all.
    """
    rates = {labels.name: size.label_rate(lab), stored.name: size.stored_rate(lab)}
    pretrained = {arm.name: arm.seeds(lab, [rates[arm.name]], size.seeds) for arm in (labels, stored)}
    own = f'{group}: pretraining' if group == FEW else f'{group}: pretraining, on its own classes'
    yield row_of(own, LABELS, lab.results(pretrained[labels.name]))
    yield row_of(own, STORED, lab.results(pretrained[stored.name]))
    seen = size.pretraining * pool
    for percent, share in shares:
        count = round(share * pool)
        finetuning = finetuning_on(count, size, base, pool)
        scratch = finetuning.with_(epochs=(size.pretraining + size.finetuning) * pool // count, tests=base.tests,
                                   new_head=False)
        arms = {
            'store, then finetuned': Arm(f'{stored.name} then {percent}%', finetuning.with_(
                thousand=not base.new_head), pretrained[stored.name], share),
            'all labels, then finetuned': Arm(f'{labels.name} then {percent}%', finetuning,
                                              pretrained[labels.name], share),
            'from scratch': Arm(f'scratch {group} {percent}%', scratch, share=share)}
        if base.new_head:
            for name, start in (('store', stored), (LABELS, labels)):
                arms[f'{name}, then a linear probe'] = Arm(
                    f'{start.name} probe', finetuning.with_(frozen=True), pretrained[start.name], share)
        finetuning_rates = size.finetuning_rates if base.new_head else size.few_rates  # a new head wants larger ones
        choices = {name: size.rates if arm.start is None else size.probing_rates if arm.training.frozen else
                   finetuning_rates for name, arm in arms.items()}
        for name, arm in arms.items():
            lab.start(arm.tries(choices[name]))
        for name, arm in arms.items():
            yield row_of(f'{group}: {percent} % labelled', name,
                         lab.results(arm.seeds(lab, choices[name], size.seeds)), 0 if arm.start is None else seen)


# ---------------------------------------------------------------- what came out
def judge(rows: Sequence[Row]) -> tuple[str, str]:
    """The gains over scratch where labels are few, and the gap to label pretraining, against the aims.

    Each margin is what there is beyond an aim; label pretraining counts as reached within the seeds' spread.
    """
    found = {(row.group, row.name): row for row in rows}
    margins, sentences = [], []
    for group, percents in ((FEW, AIMS), (OTHERS, (10, ))):
        for percent in percents:
            part = f'{group}: {percent} % labelled'
            stored, scratch, labels = (found[part, name] for name in (
                'store, then finetuned', 'from scratch', 'all labels, then finetuned'))
            gain, gap = Gain(stored, scratch), Gain(stored, labels)
            aim = f' (aim {AIMS[percent]:g})' if group == FEW else ' on other classes'
            margins += [gap.points + gap.noise] + ([gain.points - AIMS[percent]] if group == FEW else [])
            sentences.append(f'with {percent} % of the labels {gain} points over scratch{aim}, {gap} over '
                             f'label pretraining (spread {gap.noise:.1f})')
    return '; '.join(sentences), VERDICTS[min(margins) < 0]



PRETRAINING = Claim(
    name='pretraining',
    title='Pretraining distillation pays',
    question='A store needs no labels. What is a student worth that was pretrained from it, before and after '
             'finetuning on few labels?',
    published='TinyViT-21M on ImageNet-1K: 83.1 from scratch, 83.8 after ImageNet-21K labels, 84.8 after distillation '
              '(table 1)',
    setting='Pool: 7,500 photos, a store of 8 views. Students of 0.26 M parameters, 40 epochs; then finetuned on as '
            'many images as 4 epochs have. From scratch: as many images in all. Labels get fresh views, and in one row '
            'those of the store, with its head of 1,000 classes. Other classes: the pool has five of the ten, and the '
            'labels are those of the other five. It holds if the store gains 20 points over scratch with 1 % of the '
            'labels and 5 with 10 %, and is nowhere behind label pretraining by more than the seeds\' spread.',
    rows=rows, judge=judge)
