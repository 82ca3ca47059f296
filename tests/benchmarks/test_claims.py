"""The frame of `benchmarks/claims.py`: what is finished is kept, what was killed goes on, and the page is theirs."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / 'benchmarks'))
from claims import CLAIMS, RESULTS  # noqa: E402
from evidence.claim import Claim, Gain, Row, enough, load_result, measure, row_of, verdict  # noqa: E402
from evidence.kept_views import keep_views  # noqa: E402
from evidence.lab import Lab, Pending  # noqa: E402
from evidence.lengths import crossing_of  # noqa: E402
from evidence.page import write_page  # noqa: E402
from evidence.photos import pipeline, train_loader  # noqa: E402
from evidence.recipes import Training  # noqa: E402
from evidence.step import Step  # noqa: E402

from mmtinyvit.datasets.views import set_view  # noqa: E402
from mmtinyvit.errors import UserError  # noqa: E402


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Random photos in the folders of Imagenette: ten classes, four to learn from and two to judge by."""
    root, rng = tmp_path_factory.mktemp('data'), np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 2)):
        for i in range(10 * count):
            path = root / f'imagenette96/{split}/n{i % 10:02d}/{i:03d}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (96, 96, 3), np.uint8)).save(path)
    return root


@pytest.fixture(autouse=True)
def no_lab_outlives_its_test(monkeypatch):
    """Its threads would: where one is left, Ctrl-C ends the whole process, as it must for a tool."""
    labs, make = [], Lab.__init__

    def make_and_note(self, *args, **options) -> None:
        make(self, *args, **options)
        labs.append(self)

    monkeypatch.setattr(Lab, '__init__', make_and_note)
    yield
    for each in labs:
        each.stop()


@pytest.fixture
def lab(data, tmp_path):
    return Lab(tmp_path / 'steps', data, quick=True)


def training(seed: int = 0, **settings) -> Step:
    return Training(5, 1e-3, seed=seed, student='tiny', **settings).step('labels')


# ---------------------------------------------------------------- steps
def test_a_step_is_known_by_its_settings():
    assert training().key == training().key != training(1).key
    assert training().key == Training(5, 1e-3, student='tiny').step('another title').key
    first = training(start=training())
    assert first.needs == (training(), ) and first.key != training(start=training(1)).key  # and by what it starts from


def test_a_finished_step_is_not_repeated(lab):
    result = lab.results([training()])[0]
    assert result['images'] == 5 * 40 and [row['epoch'] for row in result['curve']] == [1, 2, 3, 4, 5]
    written = training().folder(lab.root) / 'result.json'
    written.write_text(json.dumps(result | dict(top1=12.5)))
    again = Lab(lab.root, lab.data, quick=True)
    assert again.results([training()])[0]['top1'] == 12.5
    idle = Lab(lab.root, lab.data, run=False)
    assert idle.results([training()])[0]['top1'] == 12.5
    with pytest.raises(Pending):
        idle.results([training(1)])


def test_a_killed_training_goes_on(lab, data, tmp_path):
    """SIGKILL in the middle; it ends with the weights of one that was left alone."""
    folder = training().prepare(tmp_path, data)
    command = [sys.executable, str(ROOT / 'benchmarks/claims.py'), '--step', str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'))
    while not list(folder.glob('work/epoch_[1-4].pth')):
        assert process.poll() is None
        time.sleep(.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / 'result.json').exists()
    resumed = Lab(tmp_path, data, quick=True).results([training()])[0]
    unbroken = lab.results([training()])[0]
    assert resumed['curve'][-1] == unbroken['curve'][-1] and resumed['cpu_seconds'] > 0
    assert len(list((folder / 'spent').iterdir())) == 2  # the time of both processes
    weights = [torch.load(training().folder(root) / 'last.pth', weights_only=False)['state_dict']
               for root in (tmp_path, lab.root)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_a_training_that_was_killed_before_its_last_test(lab):
    whole = lab.results([training()])[0]
    folder = training().folder(lab.root)
    (folder / 'result.json').unlink()
    for log in folder.glob('work/*/vis_data/scalars.json'):
        log.unlink()
    again = Lab(lab.root, lab.data, quick=True).results([training()])[0]
    assert again['curve'] == whole['curve'][-1:] and again['top1'] == whole['top1']


def test_views_are_made_once(data, tmp_path):
    """The same pixels and names as without the files, and then without the photos."""
    photos = shutil.copytree(data, tmp_path / 'photos') / 'imagenette96'
    dataset = train_loader(pipeline())['dataset'] | dict(data_root=str(photos))

    def views(config: dict, number: int) -> list[tuple]:
        built = DATASETS.build(config)
        set_view(built, number)
        return [(sample['inputs'].numpy().tobytes(), {name: sample['data_samples'].get(name) for name in (
            'sample_key', 'base_seed', 'view')}) for sample in (built[i] for i in (0, 17))]

    plain, kept = [views(dataset, number) for number in (0, 1)], keep_views(dataset, tmp_path / 'views')
    assert plain[0] != plain[1] and [views(kept, number) for number in (0, 1)] == plain
    for path in photos.glob('train/*/*'):
        path.write_bytes(b'')
    assert [views(kept, number) for number in (0, 1)] == plain
    with pytest.raises(UserError, match='cannot be decoded'):
        views(kept, 40)  # is not kept


def test_a_training_starts_from_another(lab, capsys):
    finetuned = training(start=training(), new_head=True)
    lab.results([finetuned])
    assert training().result(lab.root) is not None  # it was made first
    shown = capsys.readouterr().out.replace('\n', ' ')
    assert [int(left) for left in re.findall('([0-9]+) more to do so far', shown)] == [1, 0]


def test_what_waits_for_a_step_keeps_nothing_else_from_running(data, tmp_path):
    """Two at a time: the first ends when the third begins, and the second has to wait for the first."""
    begun = Event()

    class Hands(Lab):
        def _do(self, step, folder) -> None:
            if step == third:
                begun.set()
            else:
                assert begun.wait(30)
            (folder / 'result.json').write_text(json.dumps(dict(cpu_seconds=0, images=step.text)))

    first, third = training(), training(1)
    second = training(start=first)
    assert [found['images'] for found in Hands(tmp_path, data).results([first, second, third])] == [
        step.text for step in (first, second, third)]


def test_what_a_step_needs_may_fail(data, tmp_path):
    class Hands(Lab):
        def _do(self, step, folder) -> None:
            raise UserError(f'{step.title} failed')

    with pytest.raises(UserError, match='labels, rate 0.001, seed 0 failed'):
        Hands(tmp_path, data).results([training(start=training())])


def test_the_best_learning_rate(lab):
    for rate, choosing in ((1e-3, 10.), (3e-3, 30.), (1e-2, 20.)):
        folder = Training(5, rate).step('x').prepare(lab.root, lab.data)
        (folder / 'result.json').write_text(json.dumps(dict(choosing=choosing, top1=-choosing)))
    assert lab.best(lambda rate: Training(5, rate).step('x'), (1e-3, 3e-3, 1e-2)) == 3e-3


def test_a_step_that_fails_names_its_log(data, tmp_path):
    lab = Lab(tmp_path, data, jobs=1)
    broken = Training(1, 1e-3, student='tiny', subset=(('share', 2.), )).step('broken')
    with pytest.raises(UserError, match='broken, rate 0.001, seed 0 failed: see .*log.txt'):
        lab.results([broken])
    assert 'share=2.0' in (broken.folder(tmp_path) / 'log.txt').read_text()


# ---------------------------------------------------------------- results
def claim_of(rows) -> Claim:
    return Claim('made_up', 'Made up', 'Why?', 'nothing', 'Here.', rows, lambda rows: ('+1', 'holds'),
                 lambda rows, axes: axes.plot([row.mean for row in rows], label='x'))


def test_rows_are_written_as_they_come(lab, tmp_path):
    def rows(lab):
        yield Row('a', 'first', 10, (1., 3.), (('K', 5), ))
        yield row_of('a', 'second', lab.results([training(), training(1)]), before=7)

    claim = claim_of(rows)
    assert not measure(claim, Lab(lab.root, lab.data, run=False), tmp_path)  # nothing may be run
    found = load_result(tmp_path, 'made_up')
    assert (found['complete'], found['verdict'], len(found['rows'])) == (False, 'not finished', 1)
    assert measure(claim, lab, tmp_path)
    found = load_result(tmp_path, 'made_up')
    first, second = found['rows']
    assert (first.mean, first.spread, dict(first.facts)) == (2., pytest.approx(2**.5), dict(K=5))
    assert second.images == 207 and len(second.top1) == 2
    assert [step['title'] for step in found['steps'].values()] == [training(0).title, training(1).title]
    pages = []
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
        write_page([claim], tmp_path, tmp_path / name)
        pages.append({path.name: path.read_bytes() for path in sorted((tmp_path / name).rglob('*.*'))})
    assert pages[0] == pages[1] and list(pages[0]) == ['evidence.md', 'claim_made_up.svg']
    page = pages[0]['evidence.md'].decode()
    assert '| [Made up](#made-up) | nothing | +1 | holds |' in page
    assert '| first | 5 | 10 | 2.0 ± 1.4 | 2 |' in page and 'claims.py made_up' in page


def test_the_page_of_what_is_not_measured(tmp_path):
    """It names every claim, and shows those that were begun."""
    begun, other = claim_of(lambda lab: ()), replace(claim_of(lambda lab: ()), name='other', title='Another')
    write_page([begun, other], tmp_path, tmp_path)
    page = (tmp_path / 'evidence.md').read_text()
    assert '| Made up | nothing |  | not measured yet |' in page and 'Nothing has been measured yet.' in page
    (tmp_path / 'made_up.json').write_text(json.dumps(dict(
        complete=False, effect='', verdict='not finished', machine='here', steps=dict(
            a=dict(title='x', seconds=3600), b=dict(title='y', seconds=1800)),
        rows=[dict(group='', name='first', images=10, top1=[1.], facts={})])))
    write_page([begun, other], tmp_path, tmp_path)
    page = (tmp_path / 'evidence.md').read_text()
    assert '| [Made up](#made-up) | nothing |  | not finished |' in page and '| first | 10 | 1.0 | 1 |' in page
    assert '| Another | nothing |  | not measured yet |' in page and '## Another' not in page
    assert 'took 1.5 core hours in all, about 0.8 hours on two cores' in page and 'Not measured yet: other.' in page


def test_where_the_store_overtakes_all_labels():
    labels = {10: 60., 40: 70., 100: 74.}
    assert crossing_of({10: 50., 40: 60., 100: 73.}, labels) is None
    assert crossing_of({10: 61., 40: 71., 100: 75.}, labels) == 0
    assert crossing_of({10: 61., 40: 68., 100: 76.}, labels) == pytest.approx(4000**.5)  # halfway, by the logarithm
    assert crossing_of({10: 61., 40: 68., 100: 74.}, labels) is None  # equal is not ahead


def test_wrong_labels(data):
    """The same ones each time, and each another class."""
    def labels(flipped: float) -> list[int]:
        config = train_loader(pipeline(), flipped=flipped)['dataset'] | dict(data_root=str(data / 'imagenette96'))
        dataset = DATASETS.build(config)
        return [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))]

    true = labels(0.)
    for flipped in (0.2, 0.4):
        wrong = labels(flipped)
        assert wrong == labels(flipped) and set(wrong) <= set(range(10))
        assert sum(one != other for one, other in zip(true, wrong, strict=True)) == round(flipped * len(true))


def test_verdicts():
    def gain(points: float, *more: float) -> Gain:
        return Gain(Row('', 'x', 1, tuple(70 + points + each for each in (0, *more))), Row('', 'y', 1, (70., )))

    unseen = 'not visible at this size'
    assert verdict([gain(1.1), gain(3)]) == 'holds'  # one seed: 1 point
    assert verdict([gain(1.1), gain(.9)]) == verdict([gain(-.9), gain(5)]) == unseen
    assert verdict([gain(5), gain(-1.1)]) == 'does not hold'
    assert gain(1, 2).points == 2 and verdict([gain(1, 2)]) == 'holds'  # a deviation of 1.4
    assert verdict([gain(1.3, -.1, 2.8)]) == 'holds' and verdict([gain(.2, 2.2)]) == unseen
    assert enough(gain(-.9)) == enough(gain(5)) == 'holds' and enough(gain(-1.1)) == 'does not hold'
    # what the table shows, 60.0 and 59.9, although 59.96 - 59.94 is less
    assert str(Gain(Row('', 'x', 1, (59.96, )), Row('', 'y', 1, (59.94, )))) == '+0.1'


def test_the_page_is_that_of_the_results(tmp_path):
    """It cannot drift: `python benchmarks/claims.py --page` writes it anew."""
    write_page(list(CLAIMS.values()), RESULTS, tmp_path)
    docs = ROOT / 'docs/en'
    assert (tmp_path / 'evidence.md').read_text() == (docs / 'evidence.md').read_text()
    assert {p.name for p in tmp_path.glob('images/*')} == {p.name for p in docs.glob('images/claim_*')}


def test_the_summary_says_what_was_measured():
    page = (ROOT / 'docs/en/evidence.md').read_text()
    summary = page[page.index('In short'):page.index('| claim |')]
    said = re.findall(r'[0-9]+\.[0-9](?= %)', summary)
    means = {f'{row.mean:.1f}' for name in CLAIMS for row in (load_result(RESULTS, name) or dict(rows=()))['rows']}
    assert len(said) > 5 and set(said) <= means


# ---------------------------------------------------------------- with real photos
@pytest.mark.realdata
@pytest.mark.parametrize('name', CLAIMS)
def test_a_claim_in_miniature(name, tmp_path_factory):
    root = os.environ.get('MMTINYVIT_DATA')
    if not root:
        pytest.skip('MMTINYVIT_DATA is not set')
    work = tmp_path_factory.getbasetemp() / 'claims'  # what claims share is made once
    assert measure(CLAIMS[name], Lab(work / 'steps', Path(root), quick=True), work)
    found = load_result(work, name)
    assert found['complete'] and found['quick'] and found['verdict'] != 'not finished'
    assert all(0 <= top1 <= 100 and row.images >= 0 for row in found['rows'] for top1 in row.top1)
    (work / 'docs').mkdir(exist_ok=True)
    write_page([CLAIMS[name]], work, work / 'docs')
    assert found['effect'] in (work / 'docs/evidence.md').read_text()
