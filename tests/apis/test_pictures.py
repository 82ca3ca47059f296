"""What pictures of a store say, and that no text lies on another."""
from itertools import combinations, pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from mmengine.registry import DATASETS
from tiny_flow import CLASSES, saving

from mmtinyvit.apis import pictures
from mmtinyvit.apis.store_stats import measure_store, name_classes
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import class_names, short_name, synsets
from mmtinyvit.store import LogitStore

NAMES = [f'{number:02} WWWIDE NAME OF CLASS' for number in range(CLASSES)]


@pytest.fixture
def dataset(photos, tmp_path):
    return DATASETS.build(saving(photos, tmp_path / 'store', tmp_path).test_dataloader.dataset)


@pytest.fixture
def figures(monkeypatch):
    """The figures that were drawn, rendered."""
    drawn = []

    def keep(figure, out, **options):
        FigureCanvasAgg(figure).draw()
        drawn.append(figure)

    monkeypatch.setattr(pictures, '_save', keep)
    return drawn


def texts(figure):
    """All texts of a figure that are seen, with their boxes in pixels."""
    found = []
    for axis in figure.axes:
        found += [axis.title, axis.xaxis.label, axis.yaxis.label]
        for ticks, labels, (low, high) in ((axis.get_xticks(), axis.get_xticklabels(), axis.get_xlim()),
                                           (axis.get_yticks(), axis.get_yticklabels(), axis.get_ylim())):
            found += [label for tick, label in zip(ticks, labels, strict=True) if low <= tick <= high]
    return [(text.get_text(), text.get_window_extent()) for text in found if text.get_text()]


def assert_apart(figure):
    for (one, box), (other, their_box) in combinations(texts(figure), 2):
        assert not box.overlaps(their_box), f'{one!r} lies on {other!r}'


def test_views_have_the_names_of_classes(saved_store, dataset, figures):
    store = LogitStore(saved_store)
    pictures.draw_views(store, dataset, 'views.png', [0, 6, 13], [0, 1], top=5, classes=NAMES)
    record = store.read(1, [store.key(6)])
    said = [f'{NAMES[index]} {prob:.1%}' for prob, index in
            sorted(zip(2.718281828 ** record.log_prob[0], record.index[0], strict=True), reverse=True)]
    lines = figures[0].axes[5].get_xlabel().split('\n')
    assert sorted(lines) == sorted(said) and lines[0] == said[0]
    assert figures[0].axes[3].get_title().endswith(f'\nlabel: {store.key(6).split("/")[0]}')
    assert_apart(figures[0])
    for above, below in ((1, 3), (4, 6)):  # the text below a view, and the title of the next row
        caption, title = (figures[0].axes[above].xaxis.label, figures[0].axes[below].title)
        assert caption.get_window_extent().y0 > title.get_window_extent().y1 + 5


def test_long_names_and_keys(saved_store, dataset, figures):
    names = [f'{name} that is long' for name in NAMES]
    pictures.draw_views(LogitStore(saved_store), dataset, 'views.png', [0], [0, 1], classes=names)
    assert figures[0].axes[1].get_xlabel().count('WWWIDE NAME OF CLASS… ') == 3
    assert_apart(figures[0])


def test_classes_that_nobody_named(saved_store, dataset, figures):
    pictures.draw_views(LogitStore(saved_store), dataset, 'views.png', [0], [0], top=2)
    assert figures[0].axes[1].get_xlabel().startswith('class ')


def test_views_before_anything_is_saved(dataset, figures):
    pictures.draw_views(None, dataset, 'views.png', [0, 13], [0, 1, 7])
    assert [axis.get_title() for axis in figures[0].axes[1:4]] == ['view 0', 'view 1', 'view 7']
    assert not any(axis.get_xlabel() for axis in figures[0].axes)
    assert_apart(figures[0])


@pytest.mark.parametrize('topk, views', [(5, [0, 1]), (100, [0]), (110, [1])])
def test_plots_have_whole_numbers_on_their_axes(saved_store, dataset, figures, topk, views):
    stats = measure_store(LogitStore(saved_store), dataset, views, label_index=[4, 0, 11])
    stats['mass'] = {k: min(1, .5 + k / 300) for k in (1, 2, 5, 10, 20, 50, 100, topk) if k <= topk}
    pictures.draw_stats(stats, 'stats.png')
    mass, by_view, *histograms = figures[0].axes
    assert [tick.get_text() for tick in mass.get_xticklabels()][:3] == ['1', '2', '5']
    assert [tick.get_text() for tick in mass.get_xticklabels()][-1] == str(topk)
    low, high = by_view.get_xlim()
    assert [tick for tick in by_view.get_xticks() if low <= tick <= high] == views
    assert all(label.get_text().lstrip('−').isdecimal() for label in by_view.get_xticklabels())
    assert all(tick == int(tick) for axis in histograms for tick in axis.get_yticks())
    assert all(b > a for axis in figures[0].axes for a, b in pairwise(axis.get_xticks()))
    assert_apart(figures[0])


# ---------------------------------------------------------------- names
def test_names_of_the_teachers_classes(saved_store, dataset, tmp_path):
    """The images' where these are the teacher's classes; a file or a layout; a layout whose synsets they are."""
    store = LogitStore(saved_store)
    assert name_classes(store, dataset) is None, 'three folders, twelve classes'
    (tmp_path / 'names.txt').write_text('\n'.join(NAMES))
    assert name_classes(store, dataset, str(tmp_path / 'names.txt')) == NAMES
    with pytest.raises(UserError, match='in1k has 1,000 classes, and the teacher of the store .* has 12'):
        name_classes(store, dataset, 'in1k')
    with pytest.raises(UserError, match='nothing.txt cannot be read'):
        name_classes(store, dataset, 'nothing.txt')
    store.num_classes = 1000
    dataset._metainfo['classes'] = ['n01440764', 'n02979186', 'n03888257']
    assert name_classes(store, dataset)[482] == 'cassette player'
    dataset._metainfo['classes'] = ['n01440764', 'n02979186', 'cat']
    assert name_classes(store, dataset) is None


def test_short_names():
    assert short_name('n02979186') == 'cassette player' and short_name('n00000000') == 'n00000000'
    assert [short_name(synset) for synset in synsets('in1k')[:2]] == [
        name.split(',')[0] for name in class_names('in1k')[:2]]
    assert short_name('cassette player, of the car') == 'cassette player, of the car'
