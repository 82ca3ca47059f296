"""Claim 9: hard samples and noisy labels."""
from collections.abc import Iterator, Sequence
from typing import Any

from .arm import Arm, Size
from .claim import Claim, Gain, Row, row_of, verdict
from .lab import Lab
from .recipes import clean_labels

__all__ = ['NOISE']

STORED, LABELS, CLEANED = 'store, no labels', 'labels', 'cleaned labels'
HARD, SOFT = 'labels and store, DeiT hard', 'labels and store, DeiT soft'
FLIPPED = (0., 0.2, 0.4)
MARKERS = {STORED: 'o', LABELS: 's', CLEANED: '^', HARD: 'v', SOFT: 'D'}


def rows(lab: Lab) -> Iterator[Row]:
    size = Size.of(lab)
    epochs, store = max(1, size.pretraining // 2), size.store()
    base = size.base.with_(epochs=epochs)
    cleaning = {flipped: clean_labels(f'clean {flipped:.0%}', store, flipped, size.subset) for flipped in FLIPPED}
    lab.start(list(cleaning.values()))
    ways, used = {}, {}
    for flipped, step in cleaning.items():
        found = lab.results([step])[0]
        wrong, kept = found['wrong'], max(1, found['kept'])
        used[flipped] = {STORED: (size.pool, 0)} | dict.fromkeys((LABELS, HARD, SOFT), (size.pool, wrong)) | {
            CLEANED: (kept, found['wrong_kept'])}
        noisy = base.with_(flipped=flipped)
        arms = {LABELS: noisy, CLEANED: noisy.with_(keep=step, epochs=round(epochs * size.pool / kept)),
                STORED: base.with_(store=store), HARD: noisy.with_(store=store, deit='hard'),
                SOFT: noisy.with_(store=store, deit='soft')}
        ways |= {(flipped, name): Arm(f'{name}, {flipped:.0%} flipped', training) for name, training in arms.items()}
    lab.start([step for way in ways.values() for step in way.tries(size.rates)])
    for (flipped, name), way in ways.items():
        photos, wrong = used[flipped][name]
        facts = {} if name == STORED else {'labels': photos, 'of them wrong (%)': round(100 * wrong / photos, 1)}
        rate = lab.best(lambda rate, way=way: way.step(rate, 0), size.rates)  # wrong labels want a lower one
        yield row_of(f'{100 * flipped:.0f} % of the labels flipped', name, lab.results([way.step(rate, 0)]), **facts)


def judge(rows: Sequence[Row]) -> tuple[str, str]:
    """What the store without labels gains; the verdict is about the labels that are wrong."""
    found = {(row.group, row.name): row for row in rows}
    sentences, gains = [], []
    for group in dict.fromkeys(row.group for row in rows):
        gain, cleaned = (Gain(found[group, STORED], found[group, name]) for name in (LABELS, CLEANED))
        gains += [] if group.startswith('0 %') else [gain, cleaned]
        sentences.append(f'{group.split(" of")[0]} flipped: {gain} over labels, {cleaned} over cleaned ones')
    return 'store without labels; ' + '; '.join(sentences), verdict(gains)


def draw(rows: Sequence[Row], axes: Any) -> None:
    for name in dict.fromkeys(row.name for row in rows):
        points = [(float(row.group.split('%')[0]), row.mean) for row in rows if row.name == name]
        axes.plot(*zip(*points, strict=True), marker=MARKERS[name], label=name)
    axes.set(xlabel='labels flipped (%)', ylabel='top-1 (%)')


NOISE = Claim(
    name='noise',
    title='The teacher makes up for hard samples and wrong labels',
    question='A label may be wrong, or name one of several things in a photo. Is it enough to leave such photos out, '
             'or is the teacher\'s distribution worth more?',
    published='TinyViT-21M: after ImageNet-21K labels 83.8, cleaned labels (without the 14 % that are not among a '
              'strong model\'s top 5) 84.2, distilled 84.8; Swin-T 81.9, 82.2, 83.4 (table 1).',
    setting='0, 20 and 40 % of the labels become one of the other nine classes. Cleaned: the photos whose label is '
            'among the teacher\'s top 5 of 1,000 classes in at least half of the views (`logit_store.py clean`). DeiT: '
            'labels for one head and the teacher for a second one, as its first class (hard) or its distribution '
            '(soft). Each as many images as 20 epochs over all photos have; labels alone on fresh views, the others on '
            'those of the store. One seed, two learning rates. It holds if, with 20 and with 40 % flipped, the store '
            'is ahead of the labels and of the cleaned ones.',
    rows=rows, judge=judge, draw=draw)
