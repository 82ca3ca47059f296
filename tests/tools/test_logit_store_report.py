"""report: its numbers against a plain reckoning on dense targets, and the page, read by a parser."""
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from mmengine.runner import Runner
from tiny_flow import CLASSES, TOPK, distilling, saving

from mmtinyvit.apis.store_samples import choose_samples
from mmtinyvit.store import LogitStore

CLASS_OF = {'class_0': 4, 'class_1': 0, 'class_2': 11}
LABELS = ('--label-index', *CLASS_OF.values())
VOID = {'meta', 'img', 'br', 'path', 'use', 'link'}


class Page(HTMLParser):
    """What a page is made of; every element must be closed."""

    def __init__(self, path) -> None:
        super().__init__()
        self.text, self.open, self.elements, self.words = path.read_text('utf-8'), [], [], []
        self.feed(self.text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if 'style' not in self.open:
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def plain(self):
        return ' '.join(' '.join(self.words).split())

    def check(self):
        """It needs no network and no script, can be used by keyboard, and says what its pictures show."""
        assert {'script', 'link', 'iframe', 'object'}.isdisjoint(name for name, _ in self.elements)
        assert not any(name.startswith('on') for _, attrs in self.elements for name in attrs)
        for _, attrs in self.elements:
            for name in ('src', 'href', 'xlink:href'):
                assert attrs.get(name, '#').startswith(('#', 'data:image/')), attrs[name]
        assert 'url(http' not in self.text and '@import' not in self.text
        ids = [attrs['id'] for _, attrs in self.elements if 'id' in attrs]
        assert len(ids) == len(set(ids))
        for _, attrs in self.elements:
            targets = [attrs.get('href', ''), attrs.get('xlink:href', '')]
            assert all(target[1:] in ids for target in targets if target.startswith('#'))
            assert attrs.get('aria-labelledby') in (None, *ids)
        assert all(attrs['alt'] for attrs in self.all('img'))
        assert all(attrs['role'] == 'img' and attrs['aria-label'] for attrs in self.all('svg'))
        scrolled = [attrs for _, attrs in self.elements if attrs.get('class') == 'wide']
        assert scrolled and all(attrs['tabindex'] == '0' and attrs['aria-label'] for attrs in scrolled)
        assert self.all('html')[0]['lang'] == 'en' and len(self.all('h1')) == 1
        assert any(attrs.get('name') == 'viewport' for attrs in self.all('meta'))
        assert 'prefers-color-scheme: dark' in self.text and '#010203' not in self.text


@pytest.fixture
def config(photos, saved_store, tmp_path):
    path = tmp_path / 'teacher.py'
    saving(photos, saved_store, tmp_path / 'work').dump(path)
    return path


def report(run_tool, store, *args):
    ended = run_tool('logit_store', 'report', store, *args, '--json')
    assert ended.status == 0, ended.err
    return json.loads(ended.out)


def test_with_labels(run_tool, saved_store, config, tmp_path):
    out = tmp_path / 'report.html'
    said = report(run_tool, saved_store, '--config', config, *LABELS, '--out', out, '--worst', 14)
    store = LogitStore(saved_store)
    keys = [store.key(i) for i in range(14)]
    labels = np.array([CLASS_OF[key.split('/')[0]] for key in keys])
    records = [store.read_positions(view, range(14)) for view in (0, 1)]
    targets = np.stack([np.repeat(r.tail_mass[:, None].astype(np.float64) / (CLASSES - TOPK), CLASSES, 1)
                        for r in records])
    for target, record in zip(targets, records, strict=True):
        np.put_along_axis(target, record.index, np.exp(record.log_prob.astype(np.float64)), 1)
    first, sure = targets.argmax(2), targets.max(2)  # (2, 14)
    right = first == labels
    assert (said['samples'], said['of'], said['views'], said['records']) == (14, 14, [0, 1], 28)
    assert said['top1'] == pytest.approx(right.mean())
    assert said['tail_mass'] == pytest.approx(np.mean([r.tail_mass for r in records]), abs=1e-5)
    error = sum(abs((right - sure)[part].sum()) for part in ((sure * 15).astype(int) == i for i in range(16)))
    assert said['calibration_error'] == pytest.approx(error / 28, abs=1e-6)
    assert sum(row['views'] for row in said['reliability']) == 28
    assert said['same_top1'] == pytest.approx((first[0] == first[1]).mean())
    assert dict(zip(said['agreement']['shares'], said['agreement']['samples'], strict=True)) == {
        share: count for share, count in ((.5, (first[0] != first[1]).sum()), (1., (first[0] == first[1]).sum()))
        if count}
    for row in said['classes']:
        own = labels == row['label']
        assert row['views'] == 2 * own.sum() and row['accuracy'] == pytest.approx(right[:, own].mean())
        assert row['label_prob'] == pytest.approx(targets[:, own, row['label']].mean(), rel=1e-5)
        others = first[:, own][first[:, own] != row['label']]
        assert row['taken'] == (np.bincount(others).max() if len(others) else 0)
    gap = (sure - targets[:, np.arange(14), labels]).mean(0)
    assert [row['key'] for row in said['suspicious']] == [keys[i] for i in np.argsort(-gap) if gap[i] > 0]
    entropy = -(targets * np.log(targets)).sum(2).mean(0)
    assert [row['key'] for row in said['hardest']] == [keys[i] for i in np.argsort(-entropy)]
    assert {row['key'] for row in said['divided']} == {keys[i] for i in range(14) if first[0, i] != first[1, i]}
    best = said['hardest'][0]
    mean = targets.mean(0)[keys.index(best['key'])]
    assert [each['class'] for each in best['said']] == np.argsort(-mean, kind='stable')[:3].tolist()
    assert best['said'][0]['prob'] == pytest.approx(mean.max(), rel=1e-5)
    assert sum(said['histograms']['tail_mass']['counts']) == sum(said['histograms']['label_prob']['counts']) == 28

    page = Page(out)
    page.check()
    assert {attrs['id'] for attrs in page.all('section')} == {
        'store', 'labels', 'sure', 'views', 'suspicious', 'hardest', 'classes', 'correlation', 'terms'}
    photos = [attrs['alt'] for attrs in page.all('img') if attrs['src'].startswith('data:image/jpeg')]
    shown = [f"{row['key']}, labelled class {row['label']}; the teacher says class {row['said'][0]['class']}"
             for row in said['suspicious'] + said['hardest']]
    assert all(any(alt.startswith(each) for alt in photos) for each in shown)
    assert any(', view 1; the teacher says class' in alt for alt in photos)
    assert f"{100 * said['top1']:.1f} % of the views" in page.plain and '14 of 14 samples' in page.plain


def test_without_a_config(run_tool, saved_store, tmp_path):
    """Neither images nor labels: the store alone, and part of its samples."""
    out = tmp_path / 'report.html'
    said = report(run_tool, saved_store, '--out', out, '--samples', 5, '--views', '1:2', '--worst', 3)
    assert (said['samples'], said['of'], said['views']) == (5, 14, [1]) and 'top1' not in said
    page = Page(out)
    page.check()
    assert {attrs['id'] for attrs in page.all('section')} == {
        'store', 'sure', 'hardest', 'classes', 'correlation', 'terms'}
    assert 'spread evenly' in page.plain and not [a for a in page.all('img') if 'jpeg' in a['src']]
    named = run_tool('logit_store', 'report', saved_store, '--out', out)
    assert named.status == 0 and 'wrote' in named.out and '14 of 14' in named.out


def test_without_labels(run_tool, saved_store, photos, tmp_path):
    """A student's config, whose pipeline reads a store, on images without labels."""
    cfg = distilling(photos, saved_store, tmp_path / 'work')
    cfg.train_dataloader.dataset.update(with_label=False)
    cfg.dump(tmp_path / 'student.py')
    said = report(run_tool, saved_store, '--config', tmp_path / 'student.py', '--out', tmp_path / 'report.html')
    assert said['samples'] == 14 and 'top1' not in said and said['hardest'][0]['label'] is None
    page = Page(tmp_path / 'report.html')
    page.check()
    alts = [attrs['alt'] for attrs in page.all('img') if 'jpeg' in attrs['src']]
    assert len(alts) >= 12 and not any('labelled' in alt for alt in alts)


def test_a_share_of_the_images(run_tool, saved_store, config, tmp_path):
    """From the command line, as every tool with a config takes it."""
    args = 'logit_store', 'stats', saved_store, '--config', config, *LABELS, '--json', '--worst', 14, '--cfg-options'
    drawn = [[row['key'] for row in json.loads(run_tool(
        *args, f'test_dataloader.dataset.share={share}', f'test_dataloader.dataset.share_seed={seed}').out)['hardest']]
        for share, seed in ((.5, 0), (.5, 0), (.25, 0), (.5, 1))]
    assert list(map(len, drawn)) == [7, 7, 4, 7] and drawn[0] == drawn[1] != drawn[3] and {*drawn[2]} < {*drawn[0]}


def test_names_are_text(run_tool, saved_store, config, tmp_path):
    """Names of classes may come from anyone."""
    (tmp_path / 'names.txt').write_text('\n'.join(
        f'<script>alert({number})</script>"\' & {number}' for number in range(CLASSES)))
    out = tmp_path / 'report.html'
    report(run_tool, saved_store, '--config', config, *LABELS, '--classes', tmp_path / 'names.txt', '--out', out)
    page = Page(out)
    page.check()
    assert '<script>alert(4)</script>"\' & 4' in page.plain


def test_views_that_are_mixed(run_tool, photos, teacher_checkpoint, tmp_path):
    """Photos and labels as elsewhere, and no pictures of views; a student cannot be shown them by correlation."""
    cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint, mixing=dict(mixup_alpha=0.8))
    Runner.from_cfg(cfg).test()
    cfg.dump(tmp_path / 'teacher.py')
    out, config = tmp_path / 'report.html', tmp_path / 'teacher.py'
    said = report(run_tool, tmp_path / 'store', '--config', config, *LABELS, '--out', out)
    assert said['divided'] and said['top1'] >= 0
    page = Page(out)
    page.check()
    assert 'mixed in pairs' in page.plain and not any(', view' in attrs['alt'] for attrs in page.all('img'))
    refused = run_tool('logit_store', 'correlation', tmp_path / 'store', teacher_checkpoint, '--config', config)
    assert 'are mixed in pairs, so a student cannot be shown them' in refused.sentence


def test_a_store_elsewhere(run_tool, saved_store, bucket, storage, tmp_path, monkeypatch):
    url = f'{bucket}/store'
    assert run_tool('logit_store', 'copy', saved_store, url).status == 0
    monkeypatch.setattr('mmtinyvit.apis.store_samples.REMOTE_SHARDS', 2)
    storage.taken()
    said = report(run_tool, url, '--samples', 6, '--out', tmp_path / 'report.html')
    assert said['of'] == 14 and said['samples'] == 6
    read = {path.rsplit('/', 1)[1] for path in storage.downloads()}
    assert read == {'shard-00000.logits', 'shard-00003.logits'}  # the first and the last of four
    whole = choose_samples(LogitStore(url), 20)
    assert len(whole.positions) == 14


def test_what_cannot_be_reported(run_tool, saved_store, config, tmp_path):
    args = 'logit_store', 'report', saved_store
    assert '--label-index names 2' in run_tool(*args, '--config', config, '--label-index', 0, 1).sentence
    assert '--classes in1k' in run_tool(*args, '--config', config).sentence
    assert 'no --config has images' in run_tool(*args, *LABELS).sentence
    assert 'There is no store at' in run_tool('logit_store', 'report', tmp_path / 'none').sentence
    assert 'no complete view' in run_tool(*args, '--views', '7:8').sentence
    (tmp_path / 'file').touch()
    assert 'Cannot write' in run_tool(*args, '--out', tmp_path / 'file/report.html').sentence
