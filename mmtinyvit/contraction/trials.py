"""A trial: one candidate, trained for some epochs from the store and judged; a stop and a kill cost it no epoch."""
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.utils import import_modules_from_strings

from mmtinyvit.engine.runner import Runner

from .judge import JUDGES

__all__ = ['Judgement', 'Trial', 'carry_on', 'newest_checkpoint']


class Judgement(NamedTuple):
    """What came of a part of a training: lower is better, and infinite where the training blew up."""
    value: float
    seconds: float


@dataclass(frozen=True)
class Trial:
    """What a process needs to know about a candidate.

    Args:
        folder: Of its checkpoints, with its recipe ``config.py``.
        judge: One of :data:`~.judge.JUDGES`.
        keys: File with the keys to judge by.
        views: Of each of them.
        start: File of weights to start from, for the whole student; None starts from random ones.
        amp: Train with automatic mixed precision.
    """
    folder: str
    judge: str
    keys: str
    views: tuple[int, ...]
    start: str | None = None
    amp: bool = False


class SeedByEpoch(Hook):
    """Seed all generators before each epoch: a training that was stopped in between ends with the same weights."""
    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        seed = (runner.seed or 0) * 1000 + runner.epoch
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)


class StopAfter(Hook):
    """End the training after an epoch, counted from 1, or at once if it has come so far; its schedule is the whole one.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def before_train(self, runner: Runner) -> None:
        runner.train_loop.stop_training = runner.epoch >= self.epoch

    def after_train_epoch(self, runner: Runner) -> None:
        runner.train_loop.stop_training = runner.epoch + 1 >= self.epoch


def newest_checkpoint(folder: Path) -> Path | None:
    """Of a training in a folder; None if it has none.

    Checkpoints have their names only once they are whole. MMEngine's file ``last_checkpoint`` is not asked: a killed
    process may leave it empty.
    """
    return max(folder.glob('epoch_*.pth'), key=lambda path: int(path.stem.rpartition('_')[2]), default=None)


def carry_on(trial: Trial, epoch: int) -> Judgement:
    """Train a candidate from its last checkpoint to the end of ``epoch``, counted from 1, and judge it."""
    start, folder = time.perf_counter(), Path(trial.folder)
    path = folder / 'config.py'
    # the runner formats the config's text several times; without yapf that costs milliseconds instead of seconds
    cfg = Config(Config.fromfile(path).to_dict(), filename=str(path), format_python_code=False)
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    found = newest_checkpoint(folder)
    cfg.update(work_dir=str(folder), launcher='none', experiment_name=f'{folder.parent.name}_{folder.name}_{epoch}',
               resume=found is not None, load_from=str(found) if found else trial.start)
    if trial.amp:
        cfg.optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')
    runner = Runner.from_cfg(cfg)
    runner.register_hook(SeedByEpoch())
    runner.register_hook(StopAfter(epoch))
    runner.train()
    value = JUDGES[trial.judge](runner, trial.keys, trial.views)
    return Judgement(value if math.isfinite(value) else math.inf, time.perf_counter() - start)
