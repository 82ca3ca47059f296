"""Claim 10: a distilled student learns how the teacher's classes relate."""
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmtinyvit.apis.class_correlation import ClassCorrelation, compare_maps, correlate_store
from mmtinyvit.apis.student_outputs import build_student, correlate_student
from mmtinyvit.store import LogitStore

from .arm import Arm, Size
from .claim import VERDICTS, Claim, Row, row_of
from .lab import Lab
from .photos import IMAGENET_INDEX
from .recipes import LITE2, teacher_model, try_teacher
from .step import Step

__all__ = ['CORRELATION']

TEACHER, DISTILLED, LABELLED = 'the teacher, on other views', 'store, no labels', 'all labels'
VISIBLE = 0.05  # how far two likenesses of one seed must be apart to be called different


def rows(lab: Lab) -> Iterator[Row]:
    """The maps of the teacher on other views, of the distilled student, and of the one from labels."""
    size = Size.of(lab)
    store, teacher = size.store(), try_teacher('teacher Lite2', [teacher_model(LITE2)], size.test_every)
    stored, labels = Arm('store', size.base.with_(store=store)), Arm('labels', size.base)
    lab.start([store, teacher, *stored.tries(size.rates), *labels.tries(size.rates)])
    rates = [lab.best(lambda rate, arm=arm: arm.step(rate, 0), size.rates) for arm in (stored, labels)]
    # The same outputs as the teacher's: ten of a head of 1,000 are trained.
    headed = Arm('labels, 1000 classes', size.base.with_(thousand=True))
    steps = {DISTILLED: stored.step(rates[0], 0), LABELLED: headed.step(rates[1], 0)}
    # All of them first: a quick lab trains in a thread of this process, and views are made again by its random state.
    judged, *trained = lab.results([teacher, *steps.values(), store])[:-1]
    opened, dataset = LogitStore(store.folder(lab.root) / 'store'), _dataset(store, lab.root)
    half, positions = max(1, size.views // 4), np.arange(len(dataset))
    views = range(half)
    reference = correlate_store(opened, views, positions)
    other = correlate_store(opened, range(half, 2 * half), positions)
    yield _row(TEACHER, [judged], reference, other)
    for (name, step), found in zip(steps.items(), trained, strict=True):
        folder = step.folder(lab.root)
        model = build_student(Config(_config(folder), format_python_code=False), str(folder / 'last.pth'))
        yield _row(name, [found], reference, correlate_student(model, dataset, views, positions, opened.topk, name))


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / 'config.json').read_text())


def _dataset(store: Step, root: Path) -> Any:
    """The photos of a store, which makes its views again."""
    init_default_scope('mmpretrain')
    return DATASETS.build(_config(store.folder(root))['test_dataloader']['dataset'])


def _row(name: str, results: Sequence[dict[str, Any]], reference: ClassCorrelation, found: ClassCorrelation) -> Row:
    whole, ten = compare_maps([reference, found]), compare_maps([reference, found], IMAGENET_INDEX)
    return row_of('map of', name, results, **{
        'strength': _rounded(whole.strength[1]), 'classes known to both': int(whole.classes[0, 1]),
        'alike': _rounded(whole.alike[0, 1]), 'alike, the ten classes': _rounded(ten.alike[0, 1])})


def _rounded(value: float) -> float:
    """Three digits; a flat map is like nothing."""
    return 0. if math.isnan(value) else round(float(value), 3)


def judge(rows: Sequence[Row]) -> tuple[str, str]:
    alike = {row.name: dict(row.facts)['alike'] for row in rows}
    gain = alike[DISTILLED] - alike[LABELLED]
    effect = (f'likeness to the teacher\'s map: distilled {alike[DISTILLED]:.2f}, from labels {alike[LABELLED]:.2f}; '
              f'the teacher itself on other views {alike[TEACHER]:.2f}')
    return effect, VERDICTS[0] if gain > VISIBLE else VERDICTS[1] if gain < -VISIBLE else VERDICTS[2]


def draw(rows: Sequence[Row], axes: Any) -> None:
    names, height = [row.name for row in rows], 0.38
    for number, fact in enumerate(('alike', 'alike, the ten classes')):
        axes.barh(np.arange(len(names)) + (number - 0.5) * height, [dict(row.facts)[fact] for row in rows], height,
                  label='all classes that both know' if fact == 'alike' else 'the ten classes of the photos')
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel='likeness to the teacher\'s map (correlation of their entries)')


CORRELATION = Claim(
    name='correlation',
    title='A student learns how classes relate',
    question='Does a distilled student take the classes for each other that its teacher does, and does one that was '
             'trained on labels?',
    published='The map of correlations between the 21,841 outputs of the distilled student looks like the teacher\'s, '
              'the one of the label-trained student is flat (figure 3); no number is published.',
    setting='Each map is the Pearson correlation between the probabilities of two classes over the same 15,000 views, '
            'of which the ten most probable classes count, as in `tools/logit_store.py correlation`. *Alike* is the '
            'correlation between the entries of two maps off the diagonal, over the classes that both know; *strength* '
            'is the root mean square of those entries. The student from labels has a head of all 1,000 classes, of '
            'which ten have photos. Students of 0.26 M parameters, 40 epochs, one seed.',
    rows=rows, judge=judge, draw=draw)
