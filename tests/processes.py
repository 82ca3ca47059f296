"""Processes that have the libraries imported already, and none of the threads of the process that starts them."""
import json
import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from mmtinyvit.cli.runner import build_runner

__all__ = ['CLEAN', 'TOOLS', 'in_ranks', 'measure', 'tool_environment', 'train_in_turn']

TOOLS = Path(__file__).resolve().parents[1] / 'tools'

# PyTorch's gradients do not work in a plain fork of a process that has exported or compiled a network.
CLEAN = multiprocessing.get_context('forkserver')
CLEAN.set_forkserver_preload(['mmtinyvit.models', 'mmtinyvit.engine', 'mmtinyvit.datasets', 'mmpretrain.evaluation'])


def in_ranks(function: Callable, *args: object, ranks: int = 2, deadline: float = 240.) -> None:
    """Call a function in processes that know each other as those of torchrun do; all of them must succeed."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    processes = [CLEAN.Process(target=_as_rank, args=(rank, ranks, port, function, args)) for rank in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(deadline)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * ranks


def _as_rank(rank: int, ranks: int, port: int, function: Callable, args: tuple) -> None:
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), WORLD_SIZE=str(ranks), RANK=str(rank),
                      LOCAL_RANK=str(rank))
    torch.set_num_threads(1)  # sums are added in the same order as in the process that compares them
    function(*args)


def train_in_turn(configs: Sequence[Config]) -> None:
    """Several trainings of a rank: the processes' start takes longer than they do."""
    for cfg in configs:
        import_modules_from_strings(**cfg.custom_imports)
        cfg.launcher = 'pytorch'
        build_runner(cfg).train()


def measure(cfg: Config, out: Path) -> None:
    """A test by a rank; the first writes the metrics."""
    import_modules_from_strings(**cfg.custom_imports)
    cfg.launcher = 'pytorch'
    runner = build_runner(cfg)
    metrics = runner.test()
    if runner.rank == 0:
        out.write_text(json.dumps(metrics))


def tool_environment() -> dict[str, str]:
    """One thread per process, so that 1 and 2 processes add in the same order; the tests' folder for custom imports."""
    paths = [str(TOOLS.parent), str(TOOLS.parent / 'tests')]
    if os.environ.get('PYTHONPATH'):
        paths.append(os.environ['PYTHONPATH'])
    return os.environ | dict(PYTHONPATH=os.pathsep.join(paths), OMP_NUM_THREADS='1', PYTHONUNBUFFERED='1')
