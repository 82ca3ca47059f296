"""Claims 2, 3, 4 and 6: one setting is swept, and everything else stays."""
from collections.abc import Iterator, Sequence
from typing import Any

from mmtinyvit.store import make_codec

from .arm import STORED, Arm, Size
from .claim import Claim, Gain, Row, enough, row_of, verdict
from .lab import Lab

__all__ = ['DATA_SCALE', 'LABEL_WEIGHT', 'TOPK', 'VIEWS']

CLASSES = 1000  # of the teachers


def draw(x: str, label: str, log: bool = True) -> Any:
    """A figure of accuracy over the fact ``x`` of the rows, one line for each name."""
    def drawn(rows: Sequence[Row], axes: Any) -> None:
        lines: dict[str, list[Row]] = {}
        for row in rows:
            if x in dict(row.facts):
                lines.setdefault(row.name, []).append(row)
        for name, points in lines.items():
            axes.errorbar([dict(row.facts)[x] for row in points], [row.mean for row in points],
                          [row.spread or 0 for row in points], marker='o', capsize=3, label=name)
        for row in rows:
            if x not in dict(row.facts):
                axes.axhline(row.mean, color='gray', linestyle='--', label=row.name)
        axes.set(xlabel=label, ylabel='top-1 (%)')
        measured = sorted({dict(row.facts)[x] for row in rows if x in dict(row.facts)})
        if log:
            axes.set_xscale('log')
            axes.minorticks_off()
        axes.set_xticks(measured, [f'{value:,}' for value in measured])

    return drawn


# ---------------------------------------------------------------- label_weight
def label_weight_rows(lab: Lab) -> Iterator[Row]:
    size = Size.of(lab)
    store, rate = size.store(), size.stored_rate(lab)
    arms = {weight: Arm(f'label_weight {weight}' if weight else 'store', size.base.with_(
        store=store, label_weight=weight)) for weight in ((0., 1.) if lab.quick else (0., 0.1, 0.5, 1.))}
    steps = {weight: [arm.step(rate, seed) for seed in (size.seeds if weight in (0, 1) else [0])]
             for weight, arm in arms.items()}
    for each in steps.values():
        lab.start(each)
    for weight, each in steps.items():
        yield row_of('', 'views of the store', lab.results(each), label_weight=weight)


def judge_label_weight(rows: Sequence[Row]) -> tuple[str, str]:
    stored, best = rows[0], max(rows, key=lambda row: row.mean)
    effect = (f'labels add at most {Gain(best, stored)} points (label_weight={dict(best.facts)["label_weight"]:g}) to '
              f'{stored.mean:.1f}')
    return effect, enough(Gain(stored, best))


LABEL_WEIGHT = Claim(
    name='label_weight',
    title='No labels are needed',
    question='Does a student learn more if the labels\' loss is added to the teacher\'s?',
    published='The recipe of the paper has no label loss at all; no number for one that has is published.',
    setting='As the student of 0.26 M parameters in the first claim, 40 epochs from the store of 8 views, with '
            '`label_weight` as the share of the label loss; 1 is the labels alone, on the same 8 views. Three seeds '
            'of the store alone and of the labels alone, one of the others. It holds if no share of labels gains more '
            'than chance.',
    rows=label_weight_rows, judge=judge_label_weight, draw=draw('label_weight', 'label_weight', log=False))


# ---------------------------------------------------------------- K
def topk_rows(lab: Lab) -> Iterator[Row]:
    size = Size.of(lab)
    store = size.store(title='dense store of Lite2', views=2 if lab.quick else 4, topk=CLASSES)
    lab.start([store])
    rate = size.stored_rate(lab)
    base = size.base.with_(epochs=max(1, size.pretraining // 2), store=store)
    arms = {topk: Arm(f'dense store, top {topk}', base.with_(topk=None if topk == CLASSES else topk))
            for topk in ((5, CLASSES) if lab.quick else (1, 3, 5, 10, 50, CLASSES))}
    steps = {topk: [arm.step(rate, seed) for seed in (size.seeds if topk in (10, CLASSES) else [0])]
             for topk, arm in arms.items()}
    for each in steps.values():
        lab.start(each)
    for topk, each in steps.items():
        yield row_of('', 'from one store', lab.results(each), K=topk,
                     **{'bytes per view': make_codec('compact', topk, CLASSES).record_bytes})


def judge_topk(rows: Sequence[Row]) -> tuple[str, str]:
    found = {dict(row.facts)['K']: row for row in rows}
    dense, few = found[CLASSES], 10 if 10 in found else min(found)
    effect = (f'K = {few} is {Gain(found[few], dense)} points from all 1,000 classes ({dense.mean:.1f}), '
              f'K = {min(found)} {Gain(found[min(found)], dense)}')
    return effect, enough(Gain(found[few], dense))


TOPK = Claim(
    name='topk',
    title='A few classes of a view are enough',
    question='How many of the teacher\'s classes does a store need?',
    published='IN-1k: K = 5 to 100 give 83.7, 200 and 500 give 83.9, all 1,000 give 83.7; IN-21k: K = 5 gives 83.9, '
              '100 gives 84.1, all give 84.3 (figure 5).',
    setting='One store of 4 views with all 1,000 classes; each student reads the K most probable (`topk=` of '
            '`LoadTeacherLogits`), and the rest joins the tail. 20 epochs. Three seeds of K = 10 and of all '
            'classes, one of the others. Bytes: of a store that is saved with this K and the codec `compact`. It holds '
            'if K = 10 loses no more than chance.',
    rows=topk_rows, judge=judge_topk, draw=draw('K', 'K, classes read of each view'))


# ---------------------------------------------------------------- views
SAVING, TRAINING = 'saving, once (core seconds)', 'training (core seconds)'


def views_rows(lab: Lab) -> Iterator[Row]:
    size = Size.of(lab)
    store, rate, epochs = size.store(), size.stored_rate(lab), max(1, size.pretraining // 2)
    base = size.base.with_(epochs=epochs, tests=1, timed=True)
    counts = [1, 2, 4, 8] if size.views == 8 else [1, 2]
    steps = {count: Arm(f'{count} views', base.with_(store=store, views=count)).step(rate, 0) for count in counts}
    fresh = Arm('teacher beside the student', base.with_(online=size.teacher())).step(rate, 0)
    lab.start([*steps.values(), fresh])
    view = lab.results([store])[0]['cpu_seconds'] / size.views
    for count, step in steps.items():
        found = lab.results([step])
        yield row_of('', 'stored', found, views=count,
                     **{SAVING: round(count * view), TRAINING: round(found[0]['cpu_seconds'])})
    found = lab.results([fresh])
    yield row_of('', 'fresh views, teacher beside the student', found, **{TRAINING: round(found[0]['cpu_seconds'])})


def judge_views(rows: Sequence[Row]) -> tuple[str, str]:
    stored, fresh = [row for row in rows if row.name == 'stored'], rows[-1]
    most = stored[-1]
    facts = dict(most.facts)
    cost = dict(fresh.facts)[TRAINING]
    effect = (f'{facts["views"]} stored views {most.mean:.1f}, one {stored[0].mean:.1f}; fresh views {fresh.mean:.1f} '
              f'at {cost / max(facts[TRAINING], 1):.1f} times the time of a training, or '
              f'{cost / max(facts[TRAINING] + facts[SAVING], 1):.1f} times that of saving the store and a training')
    return effect, enough(Gain(most, fresh))


VIEWS = Claim(
    name='views',
    title='A few stored views are enough',
    question='A store has so many views and no more; does a student miss the fresh ones?',
    published='The paper stores a view for each of 90 epochs, and gives no number for fewer. A teacher beside the '
              'student takes 1.7 to 2.4 times the GPU hours (table 3).',
    setting='20 epochs that read 1, 2, 4 or 8 stored views in turn; against a view of its own in each epoch, about '
            'which the teacher is asked beside the student: what a store of 20 views would give. One seed. It holds '
            'if 8 views lose no more than chance.',
    rows=views_rows, judge=judge_views, draw=draw('views', 'stored views'))


# ---------------------------------------------------------------- data scale
def data_scale_rows(lab: Lab) -> Iterator[Row]:
    size = Size.of(lab)
    stored, labels = Arm('store', size.base.with_(store=size.store())), Arm('labels', size.base)
    lab.start([*stored.tries(size.rates), *labels.tries(size.rates)])
    rates = {stored.name: size.stored_rate(lab), labels.name: size.label_rate(lab)}
    names = {'store': STORED, 'labels': 'all labels of the share'}
    steps = {}
    for share in ((0.5, 1.) if lab.quick else (0.1, 0.25, 0.5, 1.)):
        for arm in (stored, labels):
            part = Arm(f'{arm.name} of {share:.0%}', arm.training.with_(epochs=round(size.pretraining / share)),
                       share=share) if share < 1 else arm
            steps[arm.name, share] = part.step(rates[arm.name], 0)
    lab.start(list(steps.values()))
    for (name, share), step in steps.items():
        yield row_of('', names[name], lab.results([step]), photos=round(share * size.pool))


def judge_data_scale(rows: Sequence[Row]) -> tuple[str, str]:
    stored, labels = ({dict(row.facts)['photos']: row for row in rows if (row.name == STORED) == ours}
                      for ours in (True, False))
    gains = {photos: Gain(row, labels[photos]) for photos, row in stored.items()}
    effect = 'store over labels: ' + ', '.join(f'{gain} with {photos:,} photos' for photos, gain in gains.items())
    return effect, verdict(gains.values())


DATA_SCALE = Claim(
    name='data_scale',
    title='Distillation gains at every size of the data',
    question='Is a store worth more or less where there are fewer photos?',
    published='5M, 280 to 1,400 million images of IN-21k seen: distilled 78.3 to 80.7, plain 77.2 to 79.6; 21M: 82.3 '
              'to 84.8 and 81.5 to 83.8 (figure 4).',
    setting='10, 25, 50 and 100 % of the photos (`share=` of the dataset), from a store of 8 views without labels, '
            'and from their labels on fresh views; each as many images in all as 40 epochs over all photos. One seed.',
    rows=data_scale_rows, judge=judge_data_scale, draw=draw('photos', 'photos of the pool'))
