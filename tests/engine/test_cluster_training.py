"""Training as clusters do it: torchrun starts all ranks again after one was killed, and a machine downloads once."""
import os
import subprocess
import sys

from mmengine.config import Config
from processes import TOOLS, in_ranks, tool_environment, train_in_turn
from tiny_flow import distilling, recorded

from mmtinyvit.store.admin.copying import copy_store

DEADLINE = 120  # seconds


def test_an_elastic_restart_goes_on_at_the_right_view(tmp_path, photos, saved_store):
    cfg = distilling(photos, saved_store, tmp_path / 'work', batch_size=4)
    cfg.custom_hooks.append(dict(type='KillRankOnce'))
    cfg.dump(tmp_path / 'train.py')
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', '--max-restarts=1',
         TOOLS / 'train.py', tmp_path / 'train.py', '--launcher', 'pytorch', '--resume'],
        env=tool_environment(), capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'work' / 'killed').exists() and (tmp_path / 'work' / 'epoch_2.pth').exists()
    seen = recorded(tmp_path / 'work')
    assert {(epoch, view) for epoch, view, _, _ in seen} == {(0, 0), (1, 1)}
    assert sum(epoch == 0 for epoch, *_ in seen) == 14  # the first epoch is not done again
    again = [tuple(line) for line in seen if line[0] == 1]
    assert len(set(again)) == 14 and len(again) > 14  # the second is, from its beginning, with the same pixels


def train_at(environment: dict[str, str], cfg: Config) -> None:
    os.environ.update(environment)
    train_in_turn([cfg])


def test_ranks_and_workers_of_a_machine_download_a_shard_once(tmp_path, photos, saved_store, bucket, storage):
    url = f'{bucket}/store'
    copy_store(saved_store, url)
    storage.taken()
    cfg = distilling(photos, url, tmp_path / 'work', batch_size=4, workers=2)
    in_ranks(train_at, storage.environment | dict(MMTINYVIT_CACHE=str(tmp_path / 'cache')), cfg)
    downloads = storage.downloads()
    assert len(downloads) == len(set(downloads)) == 8  # each shard of both views
    assert len(recorded(tmp_path / 'work')) == 28
