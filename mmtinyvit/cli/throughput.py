"""How fast a training would be: loading, forward and backward of a few batches."""
import itertools
import time
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner

__all__ = ['images_per_second', 'shorten_batch']

TIMED = 3  # batches; the first is not timed
LARGEST_BATCH = 16  # of a step that is timed without a GPU


def shorten_batch(cfg: Config) -> None:
    """Without a GPU a few images tell as much as a whole batch, and sooner."""
    if not torch.cuda.is_available() and cfg.train_dataloader.get('batch_size'):
        cfg.train_dataloader.batch_size = min(cfg.train_dataloader.batch_size, LARGEST_BATCH)


def images_per_second(runner: Runner, change: Callable[[dict[str, Any]], None] = lambda data: None) -> float:
    """Of a training's own loader and model; its weights stay as they are.

    Args:
        runner: Of a training that has not begun.
        change: What to do with each batch, behind the preprocessor.
    """
    model, images, start = runner.model.train(), 0, time.perf_counter()
    for number, batch in enumerate(itertools.islice(runner.train_loop.dataloader, TIMED)):
        data = model.data_preprocessor(batch, True)
        count = len(data['data_samples'])
        if number and count == 1:  # left over, where BatchNorm cannot be trained
            break
        change(data)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        loss.backward()
        float(loss.detach())  # waits for a GPU
        if number == 0:
            first, start = count / (time.perf_counter() - start), time.perf_counter()
        else:
            images += count
    return images / (time.perf_counter() - start) if images else first
