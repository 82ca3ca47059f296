"""Commands that a longer command runs: their output, their failures, and the lock that they hold for it."""
import os
import subprocess
import sys

import pytest
from rich.console import Console

from mmtinyvit.cli.job.running import job_lock
from mmtinyvit.cli.steps import run_step
from mmtinyvit.errors import UserError


def step(code: str, log, **options) -> float:
    return run_step(Console(), 'do it', 'mmtinyvit it [now]', [sys.executable, '-c', code], log, os.environ, **options)


def test_output_goes_into_the_log(tmp_path, capsys):
    assert step('import os; print("one"); print(os.environ["PYTHONWARNINGS"])', tmp_path / 'log') > 0
    assert (tmp_path / 'log').read_text() == 'one\nignore\n'
    shown, command, seconds = capsys.readouterr().out.splitlines()
    assert (shown, command) == ('do it', '  mmtinyvit it [now]') and seconds.endswith(' s')


def test_a_failure_ends_with_its_last_line(tmp_path):
    with pytest.raises(UserError) as error:
        step('import sys; print("one"); sys.exit("Error: It is broken: mend it.")', tmp_path / 'log')
    assert str(error.value) == f'"do it" failed: It is broken: mend it. (the whole output is in {tmp_path}/log)'


def test_a_step_that_outlives_its_job_keeps_others_out(tmp_path):
    with job_lock(tmp_path) as lock:
        child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE, pass_fds=[lock])
    with pytest.raises(UserError, match='Another process works on .*: wait until it is done, or end it'):
        with job_lock(tmp_path):
            pass
    child.communicate(b'\n')
    with job_lock(tmp_path):
        pass
