"""The page of a report: one HTML file that needs nothing else, no network and no script."""
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment  # torch brings it
from markupsafe import Markup

from mmtinyvit.datasets.load_teacher_logits import ignore_stores
from mmtinyvit.engine.store_check import check_canaries, check_dataset
from mmtinyvit.store import LogitStore
from mmtinyvit.store.admin.summary import describe_store, is_replayable
from mmtinyvit.store.layout import spell_numbers
from mmtinyvit.version import __version__

from ..publish import write_file
from ..store_samples import choose_samples, spread
from ..store_stats import name_classes, pick_views
from . import figures
from .contents import Found, has_labels, look, summarise
from .photos import Photos, first_classes

__all__ = ['write_report']

MOST_VIEWS, MAP_CLASSES, TABLE_ROWS, DIVIDED, SHOWN_VIEWS = 8, 24, 100, 4, 4


def write_report(store: LogitStore, out: str | Path, dataset: Any = None, views: Sequence[int] | None = None,
                 num_samples: int = 20_000, worst: int = 12,
                 label_index: Sequence[int] | Mapping[str, str] | None = None, classes: str | None = None,
                 watch: Callable[[Sequence[int]], Iterable[int]] = iter) -> dict[str, Any]:
    """Write a page about a store.

    Args:
        store: The store, in a folder or at a URL.
        out: The HTML file.
        dataset: Its images, with the replaying pipeline; their labels, if they have any, are compared with the teacher.
            Without it there are no photos, and nothing about labels. A store that its pipeline reads is not asked.
        views: Complete views; by default all of them, or 8 that are spread evenly.
        num_samples: How many samples are looked at, spread evenly; memory grows with it, with the views and with K.
        worst: How many samples of each kind are shown.
        label_index: As for :func:`~mmtinyvit.apis.store_stats.measure_store`.
        classes: Names of the teacher's classes, as for :func:`~mmtinyvit.apis.store_stats.name_classes`.
        watch: Wraps the views, for a progress bar.

    Returns:
        What :func:`~mmtinyvit.apis.report.contents.summarise` returns.

    Raises:
        UserError: The dataset is not the store's, its labels are no classes of the teacher, or the file cannot be
            written.
    """
    views = spread(np.array(pick_views(store)), MOST_VIEWS).tolist() if views is None else list(views)
    replays = dataset is not None and is_replayable(store.manifest) and not store.mixing
    if dataset is not None:
        ignore_stores(dataset)
        labelled = has_labels(dataset) and not label_index
        if replays:
            check_canaries(store, dataset, views, 2, any_order=True, labels=labelled)
        else:
            check_dataset(store, dataset, any_order=True, labels=labelled)
    names = name_classes(store, dataset, classes)
    found = look(store, choose_samples(store, num_samples, dataset), views, dataset, label_index,
                 names if classes else None, watch)
    summary = summarise(store, found, worst)
    photos = None if dataset is None else Photos(dataset)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= dict(percent=percent, name=lambda label: class_name(label, names))
    text = environment.from_string(files(__package__).joinpath('page.html').read_text('utf-8')).render(
        summary=summary, facts=describe_facts(store), title=store_name(store), version=__version__,
        max_entropy=math.log(store.num_classes), labelled=found.labels is not None, names=names, store=store,
        figures=draw_figures(found, summary, names), table_rows=TABLE_ROWS,
        map_classes=len(found.correlation.most_frequent(MAP_CLASSES)),
        has_photos=photos is not None, replays=replays, views=spell_numbers(views),
        picture=lambda sample: photos and photos.original(int(found.samples.indices[sample['row']])),
        divided=[(sample, show_views(store, found, photos, sample)) for sample in summary['divided'][:DIVIDED]]
        if replays else [])
    write_file(Path(out), text.encode())
    return summary


def store_name(store: LogitStore) -> str:
    """The last part of a store's folder or URL."""
    place = str(store.root)
    return place.rstrip('/').rpartition('/')[2] if '://' in place else Path(place).resolve().name


def percent(share: float, digits: int = 1) -> str:
    return f'{100 * share:.{digits}f}\N{NO-BREAK SPACE}%'


def class_name(label: int | None, names: Sequence[str] | None) -> str:
    return '' if label is None else names[label] if names else f'class {label}'


def describe_facts(store: LogitStore) -> dict[str, str]:
    """What a store is, by what it is called on the page."""
    about = describe_store(store.root)
    prints = about['fingerprints']
    teacher, pipeline = ({} if not isinstance(prints.get(name), dict) else prints[name]
                         for name in ('teacher', 'pipeline'))
    transforms = [step for step in pipeline.get('transforms') or [] if isinstance(step, dict)]
    partial = [view for view in about['views'] if view not in about['complete_views']]
    facts = {
        'Store': str(store.root),
        'Teacher': ' '.join(str(teacher[name]) for name in ('name', 'precision') if teacher.get(name)),
        'Weights': teacher.get('weights_hash'),
        'Samples': f"{about['num_samples']:,}",
        'Views': spell_numbers(about['complete_views']) + ' (complete)' if about['complete_views'] else '',
        'Incomplete views': spell_numbers(partial) if partial else '',
        'Classes': f"top {about['topk']:,} of {about['num_classes']:,}",
        'Codec': f"{about['codec']}, {about['bytes_per_view']:g} bytes per view",
        'On disk': f"{about['bytes_on_disk'] / 2**20:,.2f} MiB",
        'Transforms': ', '.join(str(step.get('type')).removeprefix('mmtinyvit.') for step in transforms),
        'Mixing': 'pairs of images, ' + str(pipeline.get('mixing')) if about['mixing'] else 'none',
        'Base seed': str(about['base_seed']),
        'Replay': 'by seeds, checked by canaries' if about['replayable'] else 'the views cannot be made again',
        'Written with': ', '.join(f'{name} {version}' for name, version in (prints.get('versions') or {}).items()),
        'Store id': about['store_id']}
    return {name: str(value) for name, value in facts.items() if value}


def show_views(store: LogitStore, found: Found, photos: Photos, sample: Mapping[str, Any]
               ) -> list[tuple[int, str, int, float]]:
    """A few views of a sample: number, picture, first class and its probability."""
    views, position = found.views[:SHOWN_VIEWS], int(found.samples.positions[sample['row']])
    index = int(found.samples.indices[sample['row']])
    return [(view, photos.view(view, index), label, prob)
            for view, (label, prob) in zip(views, first_classes(store, views, position), strict=True)]


def draw_figures(found: Found, summary: Mapping[str, Any], names: Sequence[str] | None) -> dict[str, Markup]:
    """The figures, by name."""
    mass, views = summary['mass'], summary['views']
    last = max(mass)
    histograms = summary['histograms']
    drawn = dict(
        mass=figures.draw('mass', f'Line: mean mass of the K most probable classes; {percent(mass[1])} for K = 1, '
                          f'{percent(mass[last])} for K = {last}.', lambda axis: figures.draw_mass(axis, mass)))
    for name, label in (('entropy', 'entropy (nats)'), ('tail_mass', 'mass of the tail'),
                        ('first_prob', 'probability of the first class'), ('label_prob', 'probability of the label')):
        if name in histograms:
            def paint(axis: Any, name: str = name, label: str = label) -> None:
                figures.draw_histogram(axis, histograms[name], label, share=name != 'entropy')
            drawn[name] = figures.draw(name, f'Histogram: {label}; {spell_histogram(histograms[name])}.', paint)
    if len(views) > 1:
        shares, samples = summary['agreement']['shares'], summary['agreement']['samples']
        drawn['agreement'] = figures.draw(
            'agreement', f'Bars: how many of the {len(views)} views have the same first class; all of them for '
            f'{percent(summary["same_top1"])} of the images.',
            lambda axis: figures.draw_agreement(axis, shares, samples, len(views)))
    if found.labels is not None:
        by_view, bins = summary['top1_by_view'], summary['reliability']
        if len(views) > 1:
            drawn['by_view'] = figures.draw(
                'by_view', f'Line: top-1 accuracy by view, from {percent(min(by_view.values()))} to '
                f'{percent(max(by_view.values()))}.', lambda axis: figures.draw_by_view(axis, by_view))
        drawn['reliability'] = figures.draw(
            'reliability', 'Accuracy over confidence; a calibrated teacher lies on the dashed diagonal. Expected '
            f'calibration error {percent(summary["calibration_error"])}.',
            lambda axis: figures.draw_reliability(axis, bins))
    chosen = found.correlation.most_frequent(MAP_CLASSES)
    if len(chosen) > 1:
        drawn['map'] = figures.draw(
            'map', f'Map: correlation among the {len(chosen)} classes that are found most often.',
            lambda axis: figures.draw_map(axis, found.correlation, chosen, names), (7.5, 6.5))
    return drawn


def spell_histogram(histogram: Mapping[str, Sequence]) -> str:
    """Where the most views are, and how many."""
    counts, edges = histogram['counts'], histogram['edges']
    most = max(range(len(counts)), key=counts.__getitem__)
    share = percent(counts[most] / max(sum(counts), 1))
    return f'{share} of the views lie from {edges[most]:.3g} to {edges[most + 1]:.3g}'
