"""`benchmarks/gpu.py` measures what it can: a part that fails or runs out of time costs no other part its turn."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / 'benchmarks'))
import gpu  # noqa: E402


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """Runs the parts that are named, in place of processes with what is given for each; the exit status and tables."""

    def run(**ends) -> tuple[int, list]:
        def part(command, timeout, env):
            end = ends[command[command.index('--part') + 1]]
            if isinstance(end, Exception):
                raise end
            return subprocess.CompletedProcess(command, end)

        monkeypatch.setattr(gpu.subprocess, 'run', part)
        out = tmp_path / 'out.json'
        monkeypatch.setattr(sys, 'argv', ['gpu.py', '--device', 'cpu', '--out', str(out), '--only', *ends])
        return gpu.main(), json.loads(out.read_text())[-1]['results']

    return run


def test_every_part_has_its_turn(ask):
    status, table = ask(networks=3, losses=1, loss=subprocess.TimeoutExpired('part', 9), attention=0)
    assert status == 1
    ends = {name: row['end'] for name, row in table.items()}
    assert ends['networks'] == 'NOT RIGHT' and ends['losses'] == 'failed with status 1'
    assert ends['loss'].startswith('stopped after its ') and ends['attention'] == 'right'


def test_time_that_is_short_is_no_fault(ask):
    assert ask(networks=0, losses=subprocess.TimeoutExpired('part', 9))[0] == 0


def test_a_part_for_real(tmp_path):
    """In a process of its own, on the CPU, in small."""
    out = tmp_path / 'out.json'
    command = [sys.executable, ROOT / 'benchmarks/gpu.py', '--device', 'cpu', '--only', 'losses', '--out', out]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    parity, parts = json.loads(out.read_text())
    assert len(parity['results']) > 7 and all(row['right'] for row in parity['results'].values())
    assert parts['results']['losses']['end'] == 'right'
