import subprocess
import sys

import pytest

from mmtinyvit.apis import run_command
from mmtinyvit.errors import UserError


def test_processes_leave_together(tmp_path, start_tool):
    process = start_tool('../tests/apis/leave_together', tmp_path, processes=2, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert [(tmp_path / f'left_{rank}').read_text() for rank in (0, 1)] == ['saved True, group False'] * 2


def test_who_is_gone_holds_up_nobody(tmp_path, start_tool):
    process = start_tool('../tests/apis/leave_together', tmp_path, '--vanish', processes=2, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and 'Traceback' not in out, out
    assert (tmp_path / 'left_0').read_text() == 'saved True, group False'


def fail() -> None:
    raise UserError('The file is missing: bring it back.')


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize('main, status, said', [
    (lambda: None, 0, ''), (lambda: 3, 3, ''), (fail, 1, 'Error: The file is missing: bring it back.\n'),
    (interrupt, 130, 'Run it again.\n'),
])
def test_status_and_sentence(main, status, said, capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(main, 'Run it again.')
    assert ended.value.code == status and capsys.readouterr().err == said


def test_a_tool_without_torch_stays_without(tmp_path):
    code = 'import sys\nfrom mmtinyvit.apis.command import run_command\ntry: run_command(lambda: None)\n' \
           'finally: print("torch" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == 'False\n'
