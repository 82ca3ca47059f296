"""How commands read their arguments and end, alone and among several processes."""
import argparse
import os
import subprocess
import sys
import threading
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed

from mmtinyvit.cli.command import add_config_options, run_command, write_json
from mmtinyvit.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def work(folder: Path, rank: int, vanish: bool) -> None:
    """The first of two processes works longer; the second ends at once, with or without the other's knowledge."""
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2)
    if rank == 0:
        time.sleep(.5)
        (folder / 'saved').touch()
    elif vanish:
        os._exit(0)


def leave(folder: Path, rank: int, vanish: bool) -> None:
    """A process that writes down how it ends."""
    os.environ.update(WORLD_SIZE='2', GLOO_SOCKET_IFNAME='lo')
    try:
        run_command(partial(work, folder, rank, vanish))
    finally:
        (folder / f'left_{rank}').write_text(f'saved {(folder / "saved").exists()}, '
                                             f'group {distributed.is_initialized()}')


@pytest.mark.parametrize('vanish', [False, True])
def test_processes_leave_together_and_do_not_wait_for_one_that_is_gone(tmp_path, vanish):
    processes = [get_context('fork').Process(target=leave, args=(tmp_path, rank, vanish)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    left = {path.name: path.read_text() for path in tmp_path.glob('left_*')}
    assert left == {f'left_{rank}': 'saved True, group False' for rank in ((0, ) if vanish else (0, 1))}


def fail() -> None:
    raise UserError('The file is missing: bring it back.')


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize('main, status, said', [
    (lambda: None, 0, ''), (lambda: 3, 3, ''), (fail, 1, 'Error: The file is missing: bring it back.\n'),
    (interrupt, 130, 'Run it again.\n'),
])
def test_status_and_sentence(main, status, said, capsys, monkeypatch):
    monkeypatch.setattr(threading, 'enumerate', lambda: [threading.main_thread()])  # without those of other tests
    with pytest.raises(SystemExit) as ended:
        run_command(main, 'Run it again.')
    assert ended.value.code == status and capsys.readouterr().err == said


def test_a_command_that_runs_no_model_does_without_torch(saved_store):
    code = ('import runpy, sys\ntry: runpy.run_path(sys.argv[0], run_name="__main__")\n'
            'finally: print({"torch", "mmengine"} & sys.modules.keys(), file=sys.stderr)')
    tool = str(ROOT / 'tools/logit_store.py')
    done = subprocess.run([sys.executable, '-c', f'import sys; sys.argv = [{tool!r}, *sys.argv[1:]]\n{code}', 'info',
                           saved_store], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, 'set()\n')


def test_options_of_a_config(capsys):
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    assert parser.parse_args(['--cfg-options', 'a.b=1', 'c=[x,y]']).cfg_options == {'a.b': 1, 'c': ['x', 'y']}
    assert parser.parse_args([]).cfg_options == {}
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', 'a'])
    assert "'a' is not KEY=VALUE" in capsys.readouterr().err


def test_results_in_a_file(tmp_path):
    write_json(tmp_path / 'new' / 'out.json', dict(one=np.float32(.5), two=torch.tensor(2.)))
    assert (tmp_path / 'new' / 'out.json').read_text() == '{\n  "one": 0.5,\n  "two": 2.0\n}\n'
    with pytest.raises(UserError, match="new .Is a directory.: choose another --out; they are {'a': 1}"):
        write_json(tmp_path / 'new', dict(a=1))
