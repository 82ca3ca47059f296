"""Processes for trials end with the search: when it fails, and even when it is killed."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmtinyvit.contraction.executors import Here, OnRay

CODE = '''
import os, time
from mmtinyvit.contraction.executors import Processes
if __name__ == '__main__':
    try:
        with Processes(1) as pool:
            print(pool.submit(os.getpid).result(), flush=True)
            pool.submit(time.sleep, 600)
            raise KeyError
    except KeyError:
        print('failed', flush=True)
    pool = Processes(1)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    time.sleep(600)
'''


def alive(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
def test_a_search_leaves_no_process(tmp_path):
    script = tmp_path / 'search.py'
    script.write_text(CODE)
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True,
                               env=os.environ | dict(PYTHONPATH=root))
    worker = int(process.stdout.readline())
    assert process.stdout.readline() == 'failed\n' and not alive(worker)
    worker = int(process.stdout.readline())
    assert worker != process.pid and alive(worker)
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 60
    while alive(worker) and time.monotonic() < end:
        time.sleep(.02)
    assert not alive(worker)


def test_here():
    assert Here().submit(divmod, 7, 2).result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        Here().submit(divmod, 7, 0)


def test_on_ray():
    """Each call is a task of its own, with the GPUs that it needs."""
    class Ray:
        def remote(self, **options):
            self.options = options
            return lambda function: type('Remote', (), dict(remote=staticmethod(
                lambda *args: type('Ref', (), dict(future=lambda _: Here().submit(function, *args)))())))

    ray = Ray()
    assert OnRay(ray, 1.).submit(divmod, 7, 2).result() == (3, 1)
    assert ray.options == dict(num_gpus=1., max_retries=3)
