"""Parts of a store written without a lock, in a folder and at a URL: races, strangers, and what can go wrong."""
import errno
import multiprocessing
import os
import signal
from pathlib import Path

import fsspec
import pytest
import s3fs
from store_teacher import KEYS, TOPK, dense, manifest, sparsify
from store_teacher import contents as files

from mmtinyvit.store import LogitStore, LogitWriter, PartWriter, StoreError, folders, remote_folder, verify_store
from mmtinyvit.store.admin.copying import copy_store
from mmtinyvit.store.admin.merge import merge_stores
from mmtinyvit.store.admin.repair import repair_store

VIEWS = (0, 1)


def contents(place, here: Path) -> dict[str, bytes]:
    """Every file of a store, in a folder or at a URL, but its lock."""
    if isinstance(place, Path):
        return files(place)
    copy_store(place, here)
    return files(here)


def write(writer, units=None) -> None:
    for unit in writer.missing(VIEWS) if units is None else units:
        positions = range(unit.first, unit.first + unit.count)
        writer.write_shard(unit, sparsify(dense(unit.view, positions), TOPK), {unit.first: bytes(16)})


@pytest.fixture(params=['folder', 'URL'])
def place(request, tmp_path):
    if request.param == 'folder':
        return tmp_path / 'store'
    return request.getfixturevalue('bucket') + '/store'


@pytest.fixture
def whole(tmp_path):
    """What one writer with a lock makes."""
    with LogitWriter(tmp_path / 'whole', manifest(), KEYS) as writer:
        write(writer)
    return contents(tmp_path / 'whole', tmp_path)


def job(place, barrier) -> None:
    barrier.wait()
    writer = PartWriter(place, manifest(), KEYS)
    barrier.wait()
    write(writer)


def test_two_jobs_that_do_all_of_it_at_once(place, tmp_path, whole):
    """Each creates the store and writes every shard; the bytes are those of one writer with a lock."""
    context = multiprocessing.get_context('fork')
    barrier = context.Barrier(2)
    jobs = [context.Process(target=job, args=(place, barrier)) for _ in range(2)]
    for process in jobs:
        process.start()
    for process in jobs:
        process.join(60)
    assert [process.exitcode for process in jobs] == [0, 0]
    assert contents(place, tmp_path / 'here') == whole


def test_going_on_and_doing_a_shard_twice(place, tmp_path, whole):
    first = PartWriter(place, manifest(), KEYS)
    write(first, first.missing(VIEWS)[::2])
    second = PartWriter(place, manifest(), KEYS)
    left = second.missing(VIEWS)
    assert left == [unit for unit in first.missing(VIEWS)] and len(left) == first.manifest.shards_per_view
    write(second)
    write(second, left)
    assert second.missing(VIEWS) == []
    assert contents(place, tmp_path / 'here') == whole


def test_another_store(place, tmp_path):
    writer = PartWriter(place, manifest(), KEYS)
    write(writer)
    before = contents(place, tmp_path / 'before')
    with pytest.raises(StoreError, match='is another one than asked for .stored != asked.: topk: .*Write to a new pla'):
        PartWriter(place, manifest(topk=2), KEYS)
    with pytest.raises(StoreError, match='sample keys: .*, SHA-256 .* != '):
        PartWriter(place, manifest(), KEYS[::-1])
    assert contents(place, tmp_path / 'after') == before


def test_a_manifest_that_another_job_put_a_moment_ago(place, tmp_path, monkeypatch):
    """Both found no store; the slower one finds the other's manifest when it puts its own, and is refused."""
    folder = folders.LocalFolder if isinstance(place, Path) else remote_folder.RemoteFolder
    put_new = folder.put_new

    def late(self, file, data):
        monkeypatch.setattr(folder, 'put_new', put_new)
        write(PartWriter(place, manifest(), KEYS))
        put_new(self, file, data)

    monkeypatch.setattr(folder, 'put_new', late)
    with pytest.raises(StoreError, match='topk: 5 != 2'):
        PartWriter(place, manifest(topk=2), KEYS)
    assert not [finding.problem for finding in verify_store(place) if finding.problem]
    monkeypatch.setattr(folder, 'put_new', late)
    assert PartWriter(place, manifest(), KEYS).missing(VIEWS) == []  # the same store: the two go on together


def test_stopped_before_the_samples_were_there(place, tmp_path, whole):
    writer = PartWriter(place, manifest(), KEYS)
    write(writer)
    for name in ('samples.txt', 'samples.idx'):
        if isinstance(place, Path):
            (place / name).unlink()
        else:
            fsspec.filesystem('s3').rm(f'{place}/{name}')
    PartWriter(place, manifest(), KEYS)
    assert contents(place, tmp_path / 'here') == whole


def test_something_else_there(tmp_path, bucket):
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'cat.jpg').touch()
    fsspec.filesystem('s3').pipe_file(f'{bucket}/photos/cat.jpg', b'')
    with pytest.raises(StoreError, match='is not a store and not empty .it has .*photos/cat.jpg'):
        PartWriter(f'{bucket}/photos/cat.jpg', manifest(), KEYS)
    for place in (tmp_path / 'photos', f'{bucket}/photos'):
        with pytest.raises(StoreError, match='is not a store and not empty .it has cat.jpg'):
            PartWriter(place, manifest(), KEYS)


# ---------------------------------------------------------------- folders
def test_a_folder_that_the_console_made(tmp_path, bucket, whole):
    """Object stores have no folders, and their consoles put an empty object where a person makes one."""
    fsspec.filesystem('s3').pipe_file(f'{bucket}/store/', b'')
    write(PartWriter(f'{bucket}/store', manifest(), KEYS))
    assert contents(f'{bucket}/store', tmp_path / 'back') == whole


def test_another_job_creates_the_store_while_it_is_looked_for(tmp_path, bucket, whole, monkeypatch):
    """s3fs asks about a folder in which it found nothing, and by then there may be something."""
    info = s3fs.S3FileSystem._info

    async def late(self, path, *args, **kwargs):
        await self._pipe_file(f'{path}/manifest.json.another-job.tmp', b'')
        return await info(self, path, *args, **kwargs)

    monkeypatch.setattr(s3fs.S3FileSystem, '_info', late)
    writer = PartWriter(f'{bucket}/store', manifest(), KEYS)
    monkeypatch.undo()
    write(writer)
    assert LogitStore(f'{bucket}/store').complete_views() == list(VIEWS)


def test_folders_of_their_own_are_merged(tmp_path, whole):
    for part in range(3):
        writer = PartWriter(tmp_path / str(part), manifest(), KEYS)
        write(writer, writer.missing(VIEWS)[part::3])
    merge_stores([tmp_path / str(part) for part in range(3)], tmp_path / 'merged')
    assert contents(tmp_path / 'merged', tmp_path) == whole


def test_a_store_that_is_deleted_stops_its_parts(tmp_path):
    writer = PartWriter(tmp_path / 'store', manifest(), KEYS)
    first, *others = writer.missing(VIEWS)
    write(writer, [first])
    os.rename(tmp_path / 'store', tmp_path / 'elsewhere')
    with pytest.raises(StoreError, match=f'The store {tmp_path}/store is gone: it was deleted or moved'):
        write(writer, others)
    assert not (tmp_path / 'store').exists()


def test_a_file_system_without_hard_links(tmp_path, monkeypatch, whole):
    def link(*paths) -> None:
        raise PermissionError(errno.EPERM, 'no links here')

    monkeypatch.setattr(os, 'link', link)
    write(PartWriter(tmp_path / 'store', manifest(), KEYS))
    assert contents(tmp_path / 'store', tmp_path) == whole
    assert not list((tmp_path / 'store').rglob('*.tmp'))


def test_killed_in_mid_shard(tmp_path, monkeypatch, whole):
    """What a dead part leaves has a name of its own: nobody minds it, and ``repair`` removes it."""
    def die() -> None:
        writer = PartWriter(tmp_path / 'store', manifest(), KEYS)
        monkeypatch.setattr(os, 'replace', lambda *paths: os.kill(os.getpid(), signal.SIGKILL))
        write(writer)

    process = multiprocessing.get_context('fork').Process(target=die)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    left, = (tmp_path / 'store').rglob('*.tmp')
    assert left.name.startswith('shard-00000.logits.') and left.name.endswith(f'-{process.pid}.tmp')
    write(PartWriter(tmp_path / 'store', manifest(), KEYS))
    assert repair_store(tmp_path / 'store', act=True).leftovers == [left]
    assert contents(tmp_path / 'store', tmp_path) == whole


def test_beside_a_writer_with_a_lock(tmp_path, monkeypatch, whole):
    """Both write the same shard at once; the one with the lock does not take the other's file for a dead one's."""
    part, replace = PartWriter(tmp_path / 'store', manifest(), KEYS), os.replace
    locked = LogitWriter(tmp_path / 'store', manifest(), KEYS, exclusive=True)

    def meanwhile(*paths) -> None:
        monkeypatch.setattr(os, 'replace', replace)
        write(locked, part.missing(VIEWS)[:1])
        replace(*paths)

    monkeypatch.setattr(os, 'replace', meanwhile)
    write(part)
    locked.close()
    assert contents(tmp_path / 'store', tmp_path) == whole


# ---------------------------------------------------------------- URLs
def test_another_job_begins_the_store_while_this_one_looks(bucket, storage, tmp_path, whole):
    """s3fs asks twice: for the files below a path, and then, if there are none, for what the path is."""
    def begin(method: str, path: str) -> None:
        if method == 'HEAD' and path.endswith('/store'):
            storage.fail = lambda method, path: None
            fsspec.filesystem('s3').pipe_file(f'{bucket}/store/manifest.json', whole['manifest.json'])

    storage.fail = begin
    write(PartWriter(f'{bucket}/store', manifest(), KEYS))
    assert contents(f'{bucket}/store', tmp_path / 'here') == whole


def test_views_relative_to_another(bucket, tmp_path):
    relative = manifest(codec='smallest', reference_view=1)
    with LogitWriter(tmp_path / 'whole', relative, KEYS) as writer:
        write(writer)
    part = PartWriter(f'{bucket}/store', relative, KEYS)
    units = part.missing(VIEWS)
    assert [unit.view for unit in units] == sorted([unit.view for unit in units], reverse=True)
    with pytest.raises(StoreError, match='view-0000/shard-00000.logits is coded relative to .*view-0001.*write that'):
        write(part, units[-part.manifest.shards_per_view:])
    write(part, units)
    assert contents(f'{bucket}/store', tmp_path / 'here') == contents(tmp_path / 'whole', tmp_path)
    with pytest.raises(StoreError, match='relative to view 1, which is not complete'):
        PartWriter(f'{bucket}/other', relative, KEYS).missing([0])


def test_the_bucket_is_away_for_a_while(bucket, storage, monkeypatch):
    pauses = []
    monkeypatch.setattr(remote_folder.time, 'sleep', pauses.append)
    writer = PartWriter(f'{bucket}/store', manifest(), KEYS)
    refusal = b'<?xml version="1.0"?><Error><Code>Away</Code><Message>come back later</Message></Error>'
    answers = iter([('418 Away', refusal)] * 3)  # a status that the library below does not try again
    storage.fail = lambda method, path: next(answers, None) if method == 'PUT' else None
    write(writer, writer.missing(VIEWS)[:1])
    assert pauses == list(remote_folder.PAUSES[:3])
    assert LogitStore(f'{bucket}/store').coverage()[0].present == 1


def test_an_object_store_without_conditions(bucket, storage, tmp_path, whole):
    """Some S3 servers do not implement If-None-Match, and say so; then the manifest is put unless there is one."""
    refusal = b'<?xml version="1.0"?><Error><Code>NotImplemented</Code><Message>a header</Message></Error>'
    first = iter([('501 Not Implemented', refusal)])
    storage.fail = lambda method, path: next(first, None) if method == 'PUT' else None
    write(PartWriter(f'{bucket}/store', manifest(), KEYS))
    assert contents(f'{bucket}/store', tmp_path / 'here') == whole


@pytest.mark.parametrize('status, code, words', [
    ('403 Forbidden', b'AccessDenied', 'It is not allowed to write {url}/manifest.json with the credentials in use'),
    ('507 Insufficient Storage', b'XMinioStorageFull', 'There is no room to write {url}/manifest.json .*quota'),
    ('404 Not Found', b'NoSuchBucket', 'There is no place for {url}/manifest.json .*make the bucket'),
])
def test_what_does_not_pass_is_said_at_once(bucket, storage, monkeypatch, status, code, words):
    monkeypatch.setattr(remote_folder.time, 'sleep', lambda seconds: pytest.fail('waited'))
    body = b'<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message></Error>' % (code, code)
    storage.fail = lambda method, path: (status, body) if method == 'PUT' else None
    with pytest.raises(StoreError, match=words.format(url=f'{bucket}/store')):
        PartWriter(f'{bucket}/store', manifest(), KEYS)


def test_places_that_cannot_be_written_to(bucket, tmp_path):
    with pytest.raises(StoreError, match='There is no place for s3://no-such-bucket/store/manifest.json'):
        PartWriter('s3://no-such-bucket/store', manifest(), KEYS)
    for piece in ('s3://', 's3:/bucket/store', Path('s3://bucket/store')):
        with pytest.raises(StoreError, match='is no whole URL: write it as text such as s3://bucket/store'):
            PartWriter(piece, manifest(), KEYS)
    with pytest.raises(StoreError, match='fsspec cannot open zip://store::s3://no-such-bucket/a.zip'):
        PartWriter('zip://store::s3://no-such-bucket/a.zip', manifest(), KEYS)
    with pytest.raises(StoreError, match='others could see half a file there: name a folder without a protocol'):
        PartWriter(f'file://{tmp_path}/store', manifest(), KEYS)
