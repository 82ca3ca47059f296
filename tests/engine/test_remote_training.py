"""Training from a store in a bucket: the same weights as from the folder, whatever starts the workers."""
import pytest
import torch
from mmengine.runner import Runner
from tiny_flow import distilling, recorded

from mmtinyvit.store.admin.copying import copy_store


@pytest.fixture(scope='module')
def from_the_folder(tmp_path_factory, photos, saved_store):
    """What was seen, and the student's weights."""
    work = tmp_path_factory.mktemp('folder')
    Runner.from_cfg(distilling(photos, saved_store, work)).train()
    return recorded(work), torch.load(work / 'epoch_2.pth', weights_only=False)['state_dict']


@pytest.mark.parametrize('loader', [
    dict(workers=2), dict(workers=1, loader=dict(persistent_workers=False, multiprocessing_context='spawn')),
], ids=['forked workers', 'new spawned workers'])
def test_the_weights_are_the_same(tmp_path, photos, saved_store, bucket, storage, from_the_folder, loader):
    url = f'{bucket}/store'
    copy_store(saved_store, url)
    storage.taken()
    Runner.from_cfg(distilling(photos, url, tmp_path / 'work', **loader)).train()
    assert len(storage.downloads()) == 8  # each shard of both views once, by whichever process
    seen, weights = from_the_folder
    assert recorded(tmp_path / 'work') == seen
    checkpoint = torch.load(tmp_path / 'work' / 'epoch_2.pth', weights_only=False)
    assert checkpoint['teacher_store']['path'] == url
    assert all(torch.equal(weights[name], value) for name, value in checkpoint['state_dict'].items())


def test_only_what_is_needed_is_fetched(tmp_path, photos, saved_store, bucket, storage):
    """Before training, one shard per canary; then those of the views in use."""
    url = f'{bucket}/store'
    copy_store(saved_store, url)
    storage.taken()
    cfg = distilling(photos, url, tmp_path / 'work', epochs=1, hook=dict(views=[1], num_canaries=1))
    Runner.from_cfg(cfg).train()
    requests = storage.taken()
    assert sorted(path.partition('/store/')[2] for method, path in requests if path.endswith('.logits')) == [
        f'view-0001/shard-0000{i}.logits' for i in range(4)]
    assert sum('list' in path or path.count('/') == 1 for _, path in requests) <= 4  # listings, not one per record
