"""Processes for trials end with the search: when it fails, and even when it is killed."""
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmtinyvit.contraction.executors import Here, OnRay
from mmtinyvit.errors import UserError

CODE = '''
import os, signal, time
from concurrent.futures import BrokenExecutor
from mmtinyvit.contraction.executors import Processes
from mmtinyvit.errors import UserError

def explain(error):
    return UserError(f'explained: {error}') if isinstance(error, ValueError) else None

if __name__ == '__main__':
    try:
        with Processes(1, explain) as pool:
            for function, text in ((int, 'one'), (dict, 1)):
                try:
                    pool.submit(function, text).result()
                except (UserError, TypeError) as error:
                    print(repr(error), flush=True)
            print(pool.submit(os.getpid).result(), flush=True)
            pool.submit(time.sleep, 600)
            raise KeyError
    except KeyError:
        print('failed', flush=True)
    pool = Processes(1)
    try:
        pool.submit(os._exit, 1).result()
    except BrokenExecutor:
        print('broken', flush=True)
    pool = Processes(1)
    worker = pool.submit(os.getpid).result()
    os.kill(worker, signal.SIGINT)
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
    assert process.stdout.readline() == '''UserError("explained: invalid literal for int() with base 10: 'one'")\n'''
    assert process.stdout.readline() == '''TypeError("'int' object is not iterable")\n'''  # a bug stays one
    worker = int(process.stdout.readline())
    assert process.stdout.readline() == 'failed\n' and not alive(worker)
    assert process.stdout.readline() == 'broken\n'
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


class FakeRay:
    """Runs tasks at once; a task that exits is a worker that has died."""

    class Told(Exception):
        def __init__(self, cause: Exception) -> None:
            self.cause = cause

    exceptions = SimpleNamespace(RayTaskError=Told)

    def remote(self, **options):
        self.options = options

        def run(*args) -> Future:
            future: Future = Future()
            try:
                future.set_result(function(*args))
            except SystemExit:
                future.set_exception(RuntimeError('a worker died'))
            except Exception as error:
                future.set_exception(self.Told(error))
            return future

        def decorate(task):
            nonlocal function
            function = task
            return SimpleNamespace(remote=lambda *args: SimpleNamespace(future=lambda: run(*args)))

        function = None
        return decorate


def test_on_ray():
    """Each call is a task of its own, with the GPUs that it needs; its error is raised here as it was there."""
    ray = FakeRay()
    executor = OnRay(ray, 1., lambda error: UserError(f'explained: {error}'))
    assert executor.submit(divmod, 7, 2).result() == (3, 1)
    assert ray.options == dict(num_gpus=1., max_retries=3)
    with pytest.raises(UserError, match='^explained: integer division'):
        executor.submit(divmod, 7, 0).result()
    with pytest.raises(BrokenExecutor, match='a worker died'):
        executor.submit(sys.exit, 1).result()
