"""A whole contraction in miniature: it ends with a recipe that trains, and a killed one ends like one left alone."""
import json
import os
import shutil
import signal
import time
from pathlib import Path

import torch
from mmengine.config import Config
from processes import CLEAN

from mmtinyvit.cli.contract import main
from mmtinyvit.contraction.architecture import Architecture
from mmtinyvit.contraction.counts import count_parameters
from mmtinyvit.contraction.report import read_rows

FLAGS = ['--params', '20k', '--steps', '2', '--candidates', '3', '--keep', '1', '--epochs', '2', '--eta', '2',
         '--moves', '3', '--measured', '6', '--batch-size', '2', '--held-out', '0.34', '--inherit']


def search(recipe: Path, out: Path, *more: str) -> None:
    torch.set_num_threads(1)
    main([str(recipe), '--out', str(out), *FLAGS, *more])


def lines(out: Path, event: str) -> list[dict]:
    path = out / 'contraction.jsonl'
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{name: value for name, value in line.items() if name != 'seconds'} for line in found
            if line['event'] == event]


def test_killed_and_resumed_like_left_alone(write_recipe, tmp_path, run_tool, capfd):
    recipe, alone, killed = write_recipe(), tmp_path / 'alone', tmp_path / 'killed'
    search(recipe, alone)
    told = capfd.readouterr()
    assert 'Step 2 of 2: 18,000 to 20,000 parameters' in told.err and 'winner.py' in told.out

    killed.mkdir()
    shutil.copy(alone / 'throughput.jsonl', killed)  # what was measured is remembered, and differs each time
    process = CLEAN.Process(target=search, args=(recipe, killed))
    process.start()
    while len(lines(killed, 'judged')) < 2:
        assert process.is_alive()
        time.sleep(.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    before = lines(killed, 'judged')
    assert len(before) < len(lines(alone, 'judged')) and not lines(killed, 'kept')
    search(recipe, killed)
    assert lines(killed, 'judged')[:len(before)] == before
    for event in ('candidates', 'judged', 'kept'):
        assert lines(killed, event) == lines(alone, event)
    assert (killed / 'throughput.jsonl').read_bytes() == (alone / 'throughput.jsonl').read_bytes()

    # what it found
    rows = read_rows(alone)
    winner = next(row for row in rows if row.kept and row.step == 2)
    assert {row.step for row in rows} == {1, 2} and all(row.values for row in rows)
    assert 18_000 <= winner.parameters == count_parameters(Architecture.parse(winner.name), 12) <= 20_000
    assert winner.base in {row.name for row in rows if row.kept and row.step == 1}
    assert (alone / 'contraction.png').stat().st_size > 5000
    assert f'| 2 | `{winner.name}` |' in (alone / 'contraction.md').read_text()
    judged, learnt = (set((alone / f'keys/{name}.txt').read_text().split()) for name in ('judging', 'training'))
    assert len(judged) == 16 and len(learnt) == 32 and not judged & learnt
    assert not [path for path in alone.glob('trials/*/*/*.pth') if path.parent.name not in {
        row.name for row in rows if row.kept}]

    # a ready recipe: the seed's schedule and all of its data
    cfg = Config.fromfile(alone / 'winner.py')
    assert Architecture.of_backbone(cfg.model.backbone).name == winner.name
    assert cfg.train_cfg.max_epochs == 20 and 'keep' not in cfg.train_dataloader.dataset
    ended = run_tool('train', alone / 'winner.py', '--work-dir', tmp_path / 'work', '--cfg-options',
                     'train_cfg.max_epochs=1')
    assert ended.status == 0 and (tmp_path / 'work/epoch_1.pth').exists()
