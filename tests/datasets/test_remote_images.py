"""Images in a bucket: the same views, stores and weights as from this machine, whatever the way there is like."""
import os
import shutil
import signal
import tarfile
import time
import zipfile
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import quote

import fsspec
import numpy as np
import pytest
import torch
from file_server import file_server
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from tiny_flow import contents, distilling, recorded, saving, view_pipeline
from torch.utils.data import DataLoader

from mmtinyvit.datasets import ImageFolder, IndexedImages, LoadImage, ViewDataset, ViewsAtOnce
from mmtinyvit.datasets.images import remote_bytes
from mmtinyvit.datasets.images.byte_cache import ByteCache
from mmtinyvit.datasets.images.data_root import DataRoot
from mmtinyvit.datasets.images.index import ImageIndex
from mmtinyvit.datasets.images.remote_bytes import ByteRange, fetch_ranges
from mmtinyvit.datasets.images.remote_index import local_index
from mmtinyvit.datasets.images.scan import index_images
from mmtinyvit.errors import UserError

DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
BUSY = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate</Message></Error>'


@pytest.fixture(scope='module')
def zips(tmp_path_factory, photos) -> Path:
    """A zip file per class, every other one compressed, and the index."""
    root = tmp_path_factory.mktemp('zips')
    for number, folder in enumerate(sorted(photos.iterdir())):
        with zipfile.ZipFile(root / f'{folder.name}.zip', 'w', (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[number % 2],
                             compresslevel=1) as file:
            for path in sorted(folder.iterdir()):
                file.write(path, path.name)
    index_images(root, root / 'images.index', layout='class-archives')
    return root


def upload(folder: Path, url: str) -> None:
    system, path = fsspec.core.url_to_fs(url)
    for file in sorted(folder.rglob('*')):
        if file.is_file():
            system.pipe_file(f'{path}/{file.relative_to(folder)}', file.read_bytes())


@pytest.fixture
def url(bucket, storage, zips) -> str:
    """The zip files and their index in a bucket."""
    upload(zips, f'{bucket}/data')
    storage.taken()
    return f'{bucket}/data'


@pytest.fixture
def impatient(monkeypatch):
    """Each library asks only once, and the pauses between our tries are short."""
    system = type(fsspec.filesystem('s3'))
    monkeypatch.setattr(system, 'retries', 1)
    monkeypatch.setenv('AWS_MAX_ATTEMPTS', '1')
    monkeypatch.setattr(remote_bytes, '_FIRST_PAUSE', 0.001)
    system.clear_instance_cache()
    yield
    system.clear_instance_cache()


def load(root: object, **options) -> IndexedImages:
    return IndexedImages(data_root=str(root), pipeline=[LoadImage()], **options)


def same_images(samples: list[dict], others: list[dict]) -> bool:
    return all(a['sample_key'] == b['sample_key'] and a['gt_label'] == b['gt_label'] and 'image_bytes' not in a
               and np.array_equal(a['img'], b['img']) for a, b in zip(samples, others, strict=True))


def ranges_of(storage) -> list[str]:
    """The archives of which something was asked, once per request."""
    return [Path(path).name for path in storage.downloads('.zip')]


# ---------------------------------------------------------------- whole runs
def from_the_bucket(cfg: Config, loader: str, photos: Path, url: str, store: Path | None = None) -> Config:
    cfg[loader].dataset = dict(type='mmtinyvit.IndexedImages', data_root=url, pipeline=view_pipeline(photos, store))
    return cfg


@pytest.mark.parametrize('loop', [dict(workers=2), dict(views_at_once=2)], ids=['workers', 'views at once'])
def test_a_store_that_is_saved_from_a_bucket_has_the_same_bytes(tmp_path, photos, saved_store, teacher_checkpoint, url,
                                                                storage, loop):
    cfg = saving(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint, **loop)
    Runner.from_cfg(from_the_bucket(cfg, 'test_dataloader', photos, url)).test()
    assert contents(tmp_path / 'store') == contents(saved_store)
    assert len(ranges_of(storage)) < 28  # neighbours came together, or an image served both views


def test_a_student_that_trains_from_a_bucket_sees_the_same_and_becomes_the_same(tmp_path, photos, saved_store, url,
                                                                                storage):
    Runner.from_cfg(distilling(photos, saved_store, tmp_path / 'local')).train()
    cfg = distilling(photos, saved_store, tmp_path / 'remote', workers=2, loader=dict(persistent_workers=False))
    Runner.from_cfg(from_the_bucket(cfg, 'train_dataloader', photos, url, saved_store)).train()
    assert recorded(tmp_path / 'remote') == recorded(tmp_path / 'local')
    local, remote = (torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False)['state_dict']
                     for name in ('local', 'remote'))
    assert all(torch.equal(remote[name], value) for name, value in local.items())


@pytest.mark.parametrize('start', ['fork', 'spawn'])
def test_workers_read_what_one_process_reads(url, zips, start):
    here, there = load(zips), load(url)
    assert same_images([there[3]], [here[3]])  # the connection of this process must not be used by the others
    loader = DataLoader(there, 3, num_workers=2 if start == 'fork' else 1, multiprocessing_context=start,
                        collate_fn=list)
    assert same_images(sum(loader, []), list(here))


def test_views_come_in_batches_and_are_the_same(photos, url, zips):
    there, here = (ViewDataset(DATASETS.build(dict(type='mmtinyvit.IndexedImages', data_root=str(root),
                                                   pipeline=view_pipeline(photos)))) for root in (url, zips))
    items = [(0, 3), (2, 3), (1, 12), (5, 0)]
    expected = [here[item]['inputs'] for item in items]
    assert all(map(torch.equal, (item['inputs'] for item in there.__getitems__(items)), expected))
    several = [([0, 2], 3), ([1], 12), ([5, 6], 0)]
    batch, single = ViewsAtOnce(there).__getitems__(several), [ViewsAtOnce(here)[item] for item in several]
    assert [len(views) for views in batch] == [2, 1, 2]
    assert all(torch.equal(a['inputs'], b['inputs']) and a['data_samples'].view == b['data_samples'].view
               for ours, theirs in zip(batch, single, strict=True) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(batch[0][1]['inputs'], expected[1])


# ---------------------------------------------------------------- requests
def test_neighbours_come_with_one_request(url, zips, storage):
    there = load(url)
    storage.taken()
    assert same_images(there.__getitems__(range(14)), list(load(zips)))
    assert sorted(ranges_of(storage)) == ['class_0.zip', 'class_1.zip', 'class_2.zip']
    assert same_images([there[i] for i in range(14)], list(load(zips)))
    assert len(ranges_of(storage)) == 14
    there.__getitems__([5, 0, 5])
    assert len(ranges_of(storage)) == 2


def test_ranges_are_merged_within_bounds(monkeypatch):
    system, data = fsspec.filesystem('memory'), np.random.default_rng(0).bytes(10_000)
    system.pipe({'/merge/a': data, '/merge/b': data[::-1]})
    asked, ask = [], type(system).cat_ranges

    def note(self, paths, starts, ends, **options):
        asked.append(list(zip(paths, starts, ends, strict=True)))
        return ask(self, paths, starts, ends, **options)

    monkeypatch.setattr(type(system), 'cat_ranges', note)
    monkeypatch.setattr(remote_bytes, '_LARGEST_GAP', 100)
    monkeypatch.setattr(remote_bytes, '_LARGEST_READ', 3000)
    wanted = [('a', 500, 900), ('b', 0, 10), ('a', 0, 400), ('a', 1001, 1500), ('a', 500, 900), ('a', 1600, 3600),
              ('a', 3650, 9000), ('a', 600, 700), ('b', 0, None), ('a', 20, 20)]
    ranges = [ByteRange(f'memory://merge/{name}', start, end) for name, start, end in wanted]
    files = dict(a=data, b=data[::-1])
    assert fetch_ranges(ranges) == [files[name][start:end] for name, start, end in wanted]
    assert asked == [[('/merge/a', 0, 900), ('/merge/a', 1001, 3600), ('/merge/a', 3650, 9000), ('/merge/b', 0, 10),
                      ('/merge/b', 0, None)]]
    assert fetch_ranges([]) == []


def test_plain_files_are_read_the_same_way(bucket, photos, storage, tmp_path):
    upload(photos, f'{bucket}/photos')
    index_images(photos, tmp_path / 'photos.index')
    there = load(f'{bucket}/photos', ann_file=str(tmp_path / 'photos.index'))
    here = load(photos, ann_file=str(tmp_path / 'photos.index'))
    assert same_images(there.__getitems__(range(14)), list(here)) and same_images([there[3]], [here[3]])
    fsspec.filesystem('s3').rm(f'{bucket}/photos/class_0/photo_000.png')
    with pytest.raises(UserError, match=f'There is no {bucket}/photos/class_0/photo_000.png'):
        there.__getitems__([1, 0])
    with pytest.raises(UserError, match='list them once with "mmtinyvit index"'):
        ImageFolder(data_root=f'{bucket}/photos')


# ---------------------------------------------------------------- what goes wrong
def fail_first(storage, times: int, answer: object) -> None:
    """The next requests for archives are answered by what ``answer`` returns."""
    left = [times]

    def fail(method: str, path: str) -> tuple[str, bytes] | None:
        if not path.endswith('.zip') or not left[0]:
            return None
        left[0] -= 1
        return answer()

    storage.fail = fail


@pytest.mark.parametrize('answer, words', [
    (lambda: ('503 Slow Down', BUSY), 'reduce your request rate'),
    (lambda: ('500 Internal Server Error', b''), 'Internal Server Error'),
    (lambda: ('429 Too Many Requests', b''), 'Too Many Requests'),
    (lambda: time.sleep(0.7), '[Tt]imeout'),
], ids=['503', '500', '429', 'time-out'])
def test_what_may_pass_is_tried_again(url, zips, storage, impatient, monkeypatch, answer, words):
    monkeypatch.setattr(type(fsspec.filesystem('s3')), 'read_timeout', 0.5)
    there = load(url)
    fail_first(storage, 3, answer)
    assert same_images(there.__getitems__(range(14)), list(load(zips)))
    fail_first(storage, 100, answer)
    with pytest.raises(UserError, match=rf'failed to read bytes \d+ to \d+ of {url}/class_0.zip in 4 tries .*{words}'
                       '.*: check the network and the URL'):
        there.__getitems__([0, 1])


@pytest.mark.parametrize('short', [lambda data: data[:-1], lambda data: b''], ids=['one byte', 'all'])
def test_fewer_bytes_than_asked_for(url, zips, storage, impatient, short):
    there, left = load(url), [2]

    def alter(path: str, data: bytes) -> bytes:
        left[0] -= 1
        return short(data) if left[0] >= 0 else data

    storage.alter = alter
    assert same_images(there.__getitems__(range(14)), list(load(zips)))
    left[0] = 100
    with pytest.raises(UserError, match=rf'failed to read bytes .* of {url}/class_0.zip in 4 tries .\d+ bytes came '
                       'instead of'):
        there[0]


@pytest.mark.parametrize('key', [0, 5], ids=['stored', 'compressed'])
def test_other_bytes_than_indexed(url, zips, storage, impatient, key):
    there, left = load(url), [1]

    def alter(path: str, data: bytes) -> bytes:
        left[0] -= 1
        return data[:50] + bytes([data[50] ^ 1]) + data[51:] if left[0] >= 0 else data

    storage.alter = alter
    assert same_images([there[key]], [load(zips)[key]])
    left[0] = 100
    with pytest.raises(UserError, match=rf'{url}/class_.*png fails its checksum each time it is fetched: put {url}'):
        there[key]


def test_another_archive_than_indexed(url, zips, storage, impatient):
    there, system = load(url), fsspec.filesystem('s3')
    whole = (zips / 'class_0.zip').read_bytes()
    system.pipe(f'{url}/class_0.zip', b'x' + whole)
    with pytest.raises(UserError, match=rf'class_0.zip has {len(whole) + 1} bytes, but had {len(whole)} when'):
        there[0]
    with pytest.raises(UserError, match=rf'class_0.zip has {len(whole) + 1} bytes, but had {len(whole)} when'):
        load(url)
    system.pipe(f'{url}/class_0.zip', whole[:30])
    storage.taken()
    for index in (0, 1):  # cut within it, and before it
        with pytest.raises(UserError, match=r'class_0.zip has 30 bytes, but the image index names bytes up to \d+'):
            there[index]


def test_what_is_not_there_or_not_allowed_is_asked_for_once(url, storage, impatient):
    there = load(url)
    storage.fail = lambda method, path: ('403 Forbidden', DENIED) if path.endswith('.zip') else None
    storage.taken()
    with pytest.raises(UserError, match=f'not allowed to read bytes .* of {url}/class_0.zip with the credentials'):
        there[0]
    assert len(ranges_of(storage)) == 1
    storage.fail = lambda method, path: None
    fsspec.filesystem('s3').rm(f'{url}/class_0.zip')
    storage.taken()
    for read in (lambda: there[0], lambda: there.__getitems__([9, 0]), lambda: load(url)):
        with pytest.raises(UserError, match=f'There is no {url}/class_0.zip .*: put it there, correct data_root'):
            read()
    with pytest.raises(UserError, match=f'The image index {url}/elsewhere/images.index does not exist'):
        load(f'{url}/elsewhere')
    with pytest.raises(UserError, match='fsspec cannot open nonsense://x'):
        load('nonsense://x')


def test_no_credentials(url, monkeypatch):
    there = load(url)
    for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'):
        monkeypatch.delenv(name)
    system = type(fsspec.filesystem('s3'))
    system.clear_instance_cache()
    try:
        with pytest.raises(UserError, match=f'no credentials to read bytes .* of {url}/class_0.zip .*AWS_ACCESS_KEY'):
            there[0]
    finally:
        system.clear_instance_cache()


def test_a_web_server(zips, impatient, monkeypatch):
    with file_server() as server:
        server.files = {f'/{path.name}': path.read_bytes() for path in zips.iterdir()}
        there = load(server.url)
        server.statuses = [503, 500, 429]
        assert same_images(there.__getitems__(range(14)), list(load(zips)))
        for status, words in ((404, 'There is no'), (403, 'not allowed to read'), (401, 'not allowed to read'),
                              (410, 'failed to read')):
            server.statuses, server.requests = [status], []
            with pytest.raises(UserError, match=f'{words}.* {server.url}/class_0.zip'):
                there[3]
            assert len(server.requests) == 1
        server.drop_after = [10] * 3
        assert same_images(there.__getitems__(range(14)), list(load(zips)))
        server.statuses = [503]
        monkeypatch.setattr(remote_bytes, '_PATIENCE', -1)  # a minute has gone by
        with pytest.raises(UserError, match='failed to read bytes .* of http.*503'):
            there[3]


def served(folder: Path) -> dict[str, bytes]:
    """The files of a folder, by the quoted paths of a web server."""
    return {quote(f'/{file.relative_to(folder)}', safe='/&'): file.read_bytes() for file in folder.rglob('*')
            if file.is_file()}


@pytest.mark.parametrize('layout', ['folders', 'class-archives', 'archive'])
def test_what_a_web_server_lists_has_the_same_keys_and_images(tmp_path, photos, layout):
    here, names = tmp_path / 'here', ['n 01', 'n&02', 'n%2003']
    for folder, name in zip(sorted(photos.iterdir()), names, strict=True):
        target = here / name if layout == 'folders' else tmp_path / 'packed' / name
        shutil.copytree(folder, target)
        min(target.iterdir()).rename(target / 'b c#é?+.png')
        if layout == 'class-archives':
            here.mkdir(exist_ok=True)
            with tarfile.open(here / f'{name}.tar', 'w') as file:
                file.add(target, name)
    if layout == 'archive':
        here.mkdir()
        with tarfile.open(here / 'all photos.tar', 'w') as file:
            file.add(tmp_path / 'packed', '.')
    index_images(here, tmp_path / 'here.index')
    with file_server() as server:
        server.files, server.listing = {f'/my%20data{name}': data for name, data in served(here).items()}, True
        root = f'{server.url}/my data'
        if layout == 'archive':  # its own URL is enough
            server.listing = False
            index_images(f'{root}/all photos.tar', tmp_path / 'there.index')
        else:
            index_images(root, tmp_path / 'there.index')
        if layout != 'folders':
            assert (tmp_path / 'there.index').read_bytes() == (tmp_path / 'here.index').read_bytes()
        there = load(root, ann_file=str(tmp_path / 'there.index'))
        assert same_images(there.__getitems__(range(14)), list(load(here, ann_file=str(tmp_path / 'here.index'))))


def test_a_web_server_fails_while_images_are_listed(tmp_path, zips, impatient):
    with file_server() as server:
        server.files, server.listing = served(zips), True
        server.statuses = [503, 500, 429]
        index_images(server.url, tmp_path / 'there.index')
        assert (tmp_path / 'there.index').read_bytes() == (zips / 'images.index').read_bytes()
        root = DataRoot(server.url)
        for call in (root.entries, lambda: list(root.walk('')), lambda: root.read('class_0.zip', 10)):
            server.statuses = [503] * 4
            with pytest.raises(UserError, match=rf'failed to (list|read .* of) {server.url}.* in 4 tries.*503'):
                call()
        server.listing = False
        for call in (root.entries, lambda: list(root.walk('')), lambda: root.glob('*.zip')):
            with pytest.raises(UserError, match='does not list http.*status 404.*: name an archive by its own URL'):
                call()
        server.listing, server.statuses = True, [403]
        with pytest.raises(UserError, match='does not list http.*status 403'):
            root.entries()
    with pytest.raises(UserError, match='failed to list http.* 4 tries'):
        root.entries()
    with pytest.raises(UserError, match='failed to read http.* 4 tries'):
        root.entry('class_0.zip')


@pytest.mark.parametrize('protocol', ['memory', 'http', 'here'])
def test_the_files_of_a_data_root(tmp_path, protocol):
    files = {'list.txt': b'0123456789', 'n01/a b.tar': bytes(range(256)) * 4, 'n01/deep/c.tar': b'c', 'n[1].tar': b'd',
             'z.ZIP': b'zz'}
    for name, data in files.items():
        (tmp_path / 'root' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'root' / name).write_bytes(data)
    with file_server() as server:
        server.files, server.listing = served(tmp_path / 'root'), True
        upload(tmp_path / 'root', f'memory:/{tmp_path}/root')
        root = DataRoot(dict(memory=f'memory:/{tmp_path}/root', http=server.url, here=tmp_path / 'root')[protocol])
        assert sorted(root.walk('')) == sorted(files)
        assert sorted(root.walk('n01')) == ['n01/a b.tar', 'n01/deep/c.tar']
        assert [entry[:3] for entry in root.glob('*.tar')] == [
            (name, False, len(files[name])) for name in ('n01/a b.tar', 'n01/deep/c.tar', 'n[1].tar')]
        assert [entry.name for entry in root.glob('n[1].tar')] == ['n[1].tar'] and root.glob('n02.tar') == []
        assert [(entry.name, entry.is_dir) for entry in root.entries()] == [
            ('list.txt', False), ('n01', True), ('n[1].tar', False), ('z.ZIP', False)]
        assert [entry.size for entry in root.entries()[2:]] == [1, 2]  # an index keeps the sizes of archives
        assert root.read('list.txt', 4) == b'0123' and root.read('list.txt', 40) == b'0123456789'
        assert root.read('nothing.txt', 4) is None
        with root.open('n01/a b.tar') as file:
            assert file.seek(-10, 2) == 1014 and file.read() == bytes(range(246, 256)) and file.read(1) == b''
            assert file.seek(100) == 100 and file.read(3) == bytes([100, 101, 102])
        for call in (root.entry, root.open):
            with pytest.raises(FileNotFoundError):
                call('nothing.tar')


def test_a_web_server_without_ranges_does_not_fill_the_memory(tmp_path, zips, impatient):
    with file_server() as server:
        server.files = served(zips)
        name = '/class_0.zip'
        server.files[name] += bytes(50_000_000)
        server.ranges = False
        server.requests.clear()
        with pytest.raises(UserError, match=rf'web server of {server.url}{name} does not know ranges \(50\d* bytes '
                           'were sent instead of 1000'):
            fetch_ranges([ByteRange(f'{server.url}{name}', 500, 1500)])
        assert len(server.requests) == 1 and server.sent < 20_000_000  # what the sockets hold
        assert fetch_ranges([ByteRange(f'{server.url}{name}')]) == [server.files[name]]
        with pytest.raises(UserError, match='does not know ranges'):
            index_images(f'{server.url}{name}', tmp_path / 'there.index')


@pytest.mark.parametrize('protocol', ['memory', 'file'])
def test_other_protocols(zips, tmp_path, monkeypatch, protocol):
    monkeypatch.setenv('MMTINYVIT_CACHE', str(tmp_path / 'cache'))
    url = f'{protocol}://{tmp_path}/data'
    (tmp_path / 'data').mkdir()
    upload(zips, url)
    there = load(url)
    assert same_images(there.__getitems__(range(14)), list(load(zips)))
    with pytest.raises(UserError, match=f'There is no {url}/nothing'):
        fetch_ranges([ByteRange(f'{url}/nothing', 0, 10)])


def test_an_index_is_not_written_to_a_url(tmp_path, photos, run_tool, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = run_tool('dataset_converters/index_images', photos, '--out', 's3://bucket/images.index')
    assert '--out s3://bucket/images.index is a URL: name a file of this machine' in refused.sentence
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- what is kept here
def test_the_index_is_fetched_once_and_again_when_it_changes(url, zips, storage, tmp_path):
    for _ in range(2):
        assert list(load(url).iter_sample_keys()) == list(load(zips).iter_sample_keys())
    assert len(storage.downloads('.index')) == 1
    index_images(zips, tmp_path / 'images.index', classes=['class_2', 'class_0'], layout='class-archives')
    fsspec.filesystem('s3').put_file(str(tmp_path / 'images.index'), f'{url}/images.index')
    assert load(url).CLASSES == ('class_2', 'class_0')
    damaged = bytearray((zips / 'images.index').read_bytes())
    damaged[70] ^= 1  # in the keys
    for content, words in ((damaged, 'is damaged'), (damaged[:900], 'is truncated'), (b'', 'cannot be read')):
        fsspec.filesystem('s3').pipe(f'{url}/images.index', bytes(content))
        with pytest.raises(UserError, match=f'The image index {url}/images.index {words}'):
            load(url)
    assert len(list((tmp_path / 'cache' / 'indexes').iterdir())) == 2


def test_an_index_that_changes_is_noticed_where_a_server_tells_its_size_alone(photos, tmp_path, monkeypatch):
    monkeypatch.setenv('MMTINYVIT_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'shards').mkdir()
    with tarfile.open(tmp_path / 'shards' / 'train-0000.tar', 'w') as file:
        file.add(photos / 'class_0' / 'photo_000.png', 'a.png')
    with file_server() as server:
        for label in '01':  # which stands in no header
            (tmp_path / 'labels.txt').write_text(f'train-0000/a.png {label}\n')
            index_images(tmp_path / 'shards', tmp_path / 'images.index', labels=str(tmp_path / 'labels.txt'),
                         classes=['a', 'b'])
            server.files = {'/images.index': (tmp_path / 'images.index').read_bytes()}
            for _ in range(2):
                assert ImageIndex(local_index(f'{server.url}/images.index')).labels.tolist() == [int(label)]
        whole = [path for path, wanted in server.requests if wanted is None]
        assert len(whole) == 2


def test_no_cache_unless_it_is_given_a_size(url, zips, storage, tmp_path, monkeypatch):
    there = load(url)
    for size in (None, '0'):
        if size is not None:
            monkeypatch.setenv('MMTINYVIT_IMAGE_CACHE_BYTES', size)
        there.__getitems__(range(14))
    assert not (tmp_path / 'cache' / 'images').exists()
    monkeypatch.setenv('MMTINYVIT_IMAGE_CACHE_BYTES', '5 GB')
    with pytest.raises(UserError, match="not '5 GB': correct MMTINYVIT_IMAGE_CACHE_BYTES"):
        there[0]


def test_workers_share_a_cache(url, zips, storage, tmp_path, monkeypatch):
    monkeypatch.setenv('MMTINYVIT_IMAGE_CACHE_BYTES', str(2**30))
    there, here = load(url), list(load(zips))
    loader = DataLoader(there, 2, num_workers=2, collate_fn=list)
    assert same_images(sum(loader, []), here)
    storage.taken()
    assert same_images(sum(loader, []), here) and same_images([there[4]], here[4:5])
    assert ranges_of(storage) == []
    entries = [path for path in (tmp_path / 'cache' / 'images').rglob('*') if path.is_file() and path.name != 'count']
    assert len(entries) == 14
    entries[0].write_bytes(entries[0].read_bytes()[:-20])  # cut off, as by a power failure
    entries[1].write_bytes(b'')
    (entries[0].parent / 'count').write_bytes(b'12345')
    assert same_images(there.__getitems__(range(14)), here) and len(ranges_of(storage)) in (1, 2)
    storage.fail = lambda method, path: ('403 Forbidden', DENIED)
    assert same_images(there.__getitems__(range(14)), here)
    shutil.rmtree(tmp_path / 'cache')
    with pytest.raises(UserError, match='not allowed'):
        there[0]
    (tmp_path / 'cache').write_text('in the way')
    with pytest.raises(UserError, match='The cache .*images cannot be used .*MMTINYVIT_CACHE'):
        there[0]


def test_a_cache_keeps_what_it_has_and_stays_within_its_limit(tmp_path, monkeypatch):
    """With room for a third, a third is hit in every round, in whatever order the keys come."""
    cache = ByteCache(tmp_path / 'images', 256 * 1004 * 4)
    data = {f'image {i}': bytes([i % 256]) * 1000 for i in range(3072)}
    hits = []
    for round in range(3):
        keys = np.random.default_rng(round).permutation(list(data)).tolist()
        found = {key: cache.get(key) for key in keys if cache.get(key) is not None or cache.put(key, data[key])}
        assert all(data[key] == value for key, value in found.items())
        hits.append(len(found))
    assert hits[0] == 0 and hits[1] == hits[2] > 900
    assert stored(cache) <= cache.limit
    smaller = ByteCache(cache.folder, cache.limit // 2)
    later = time.time() + 4000
    monkeypatch.setattr(time, 'time', lambda: later)
    for i in range(3072):
        smaller.put(f'new {i}', bytes(1000))
    kept = [key for key in data if smaller.get(key)]
    assert stored(smaller) <= smaller.limit and len(kept) * 1004 > 0.9 * smaller.limit
    later += 8 * 86_400  # what nobody has used for a week goes
    for i in range(3072):
        smaller.put(f'other {i}', bytes(1000))
    assert not any(map(smaller.get, kept)) and smaller.limit // 2 < stored(smaller) <= smaller.limit
    smaller.put('large', bytes(smaller.limit // 256))
    assert smaller.get('large') is None


def fill(cache: ByteCache, seed: int, rounds: int) -> None:
    for _ in range(rounds):
        for i in np.random.default_rng(seed).permutation(1200).tolist():
            data = bytes([i % 256]) * 1000
            if cache.get(f'image {i}') not in (None, data):
                os._exit(1)
            cache.put(f'image {i}', data)


def test_processes_that_fill_a_cache_together_keep_to_its_limit(tmp_path):
    cache = ByteCache(tmp_path / 'images', 256 * 1004 * 3)
    processes = [get_context('fork').Process(target=fill, args=(cache, seed, 1 if seed else 10**9))
                 for seed in range(4)]
    for process in processes:
        process.start()
    while not any(cache.folder.glob('*/*')):
        time.sleep(.001)
    os.kill(processes[0].pid, signal.SIGKILL)  # it would never end
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [-signal.SIGKILL, 0, 0, 0]
    assert cache.limit // 2 < stored(cache) <= cache.limit
    assert all(cache.get(f'image {i}') in (None, bytes([i % 256]) * 1000) for i in range(1200))


def stored(cache: ByteCache) -> int:
    return sum(path.stat().st_size for path in cache.folder.rglob('*') if path.is_file() and path.name != 'count')
