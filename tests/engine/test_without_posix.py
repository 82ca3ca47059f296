"""What Windows lacks is not needed to build models and to train from a store; only writing one needs it."""
import os
import subprocess
import sys

CHILD = '''
import os, platform, sys
from pathlib import Path
import torch, mmpretrain.apis, mmpretrain.datasets, mmpretrain.models  # on Linux, these may use what it has
for name in ('fcntl', 'resource', 'termios', 'pwd', 'grp', 'pty', 'tty', 'syslog', 'readline'):
    sys.modules[name] = None
for name in ('O_CLOEXEC', 'O_DIRECTORY', 'O_NOFOLLOW', 'O_NONBLOCK', 'pread', 'pwrite', 'fork', 'statvfs', 'mkfifo',
             'sched_getaffinity', 'killpg', 'getloadavg'):
    delattr(os, name)
real = os.replace
def replace(source, target):
    files = [os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')]
    assert os.path.realpath(source) not in files, 'Windows renames no open file'
    real(source, target)
os.replace = replace
platform.system = lambda: 'Windows'  # MMEngine asks, and takes what it needs from `resource` elsewhere
import mmtinyvit.apis, mmtinyvit.cli.store_commands, mmtinyvit.cli.runner, mmtinyvit.zoo
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from mmtinyvit.store import LogitStore, LogitWriter, StoreError, verify_store
from tiny_flow import distilling
photos, store, work = map(Path, sys.argv[1:])
assert MODELS.build(dict(type='mmtinyvit.TinyViT', arch='5m'))(torch.zeros(1, 3, 64, 64))
Runner.from_cfg(distilling(photos, store, work, epochs=1)).train()
remote = LogitStore(f'file://{store}', cache=work / 'cache')
assert (remote.read_positions(0, [3]).index == LogitStore(store).read_positions(0, [3]).index).all()
assert not any(finding.problem for finding in verify_store(store))
try:
    LogitWriter(work / 'new', dict(topk=1, num_classes=2), ['a'])
except StoreError as error:
    print('refused:', error)
'''


def test_training_from_a_store_without_posix(photos, saved_store, tmp_path):
    env = os.environ | dict(PYTHONPATH=os.pathsep.join(sys.path), OMP_NUM_THREADS='1')
    done = subprocess.run([sys.executable, '-c', CHILD, photos, saved_store, tmp_path], env=env, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert (f'refused: The store {tmp_path / "new"} cannot be written on this operating system, which lacks the locks '
            'of POSIX: write it on Linux or macOS; it can be read here.') in done.stdout
