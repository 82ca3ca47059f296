"""The runners of all tools: for models, and for teachers that are asked and never trained."""
import logging
from typing import Any

from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger, print_log
from mmengine.runner import BaseLoop, TestLoop, ValLoop
from mmpretrain.evaluation import Accuracy
from timm.utils import unwrap_model
from torch import nn
from torch.utils.data import DataLoader

from mmtinyvit.errors import UserError
from mmtinyvit.models.classifiers import build_teacher

from .checkpoint_runner import CheckpointRunner
from .label_check import check_outputs, num_outputs
from .workers import quiet_workers

__all__ = ['Runner', 'TeacherRunner']

# The lists of environment, config and hooks, a line for every parameter, and what MMEngine says of its own code.
_FOR_THE_LOG_FILE = (f'\n{60 * "-"}\nSystem environment:', 'Config:\n', 'Hooks will be executed in the following order',
                     'paramwise_options -- ', '"FileClient" will be deprecated', '"HardDiskBackend" is the alias')


def _is_for_the_console(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_FOR_THE_LOG_FILE)


class Runner(CheckpointRunner):
    """A runner that says before the first batch what would stop, or spoil, the run in its midst.

    Its log file has everything; the console leaves out the lists of environment, config, hooks and parameters.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """As MMEngine, with a console that is short."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:  # not a file's, which is one too
                handler.addFilter(_is_for_the_console)
        return logger

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args, **kwargs) -> DataLoader:
        """As MMEngine's; without workers, nothing that only they have. Refuses a loader without a single batch."""
        for name in ('sampler', 'batch_sampler') if isinstance(dataloader, dict) else ():
            if isinstance(dataloader.get(name), str):
                raise UserError(f'A loader has {name}={dataloader[name]!r}, where a dict belongs: write dict(type='
                                f'{dataloader[name]!r}).')
        if isinstance(dataloader, dict) and not dataloader.get('num_workers'):
            idle = [name for name in ('persistent_workers', 'prefetch_factor') if dataloader.get(name)]
            if idle:
                print_log(f'A loader has num_workers=0, so that its {" and ".join(idle)} mean nothing.', 'current')
            dataloader = {name: value for name, value in dataloader.items() if name not in idle}
        built = CheckpointRunner.build_dataloader(dataloader, *args, **kwargs)
        loader = quiet_workers(built) if isinstance(dataloader, dict) else built
        if hasattr(loader.dataset, '__len__') and not len(loader):
            raise UserError(f'The {len(loader.dataset)} samples of {type(loader.dataset).__name__} are fewer than one '
                            f'batch of {loader.batch_size}, and drop_last leaves none: set a smaller batch_size, or '
                            'drop_last=False.')
        return loader

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        loop = super().build_train_loop(loop)
        model = unwrap_model(self.model)
        if getattr(model, 'reads_labels', True):
            check_outputs(loop.dataloader.dataset, num_outputs(model))
        return loop

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        return self._checked(super().build_val_loop(loop))

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        return self._checked(super().build_test_loop(loop))

    def build_evaluator(self, evaluator: Evaluator | dict | list) -> Evaluator:
        """As MMEngine's; refuses an accuracy among more classes than there are, which would end the first epoch."""
        evaluator = super().build_evaluator(evaluator)
        outputs = num_outputs(unwrap_model(self.model))
        for metric in evaluator.metrics:
            if isinstance(metric, Accuracy) and not (metric.topk and all(
                    isinstance(k, int) and 1 <= k <= (outputs or k) for k in metric.topk)):
                raise UserError(f'Accuracy cannot tell the top {", ".join(map(str, metric.topk)) or "none"} of '
                                f'{outputs or "the"} classes: set topk of the evaluator to numbers from 1 to the '
                                'number of classes.')
        return evaluator

    def _checked(self, loop: BaseLoop) -> BaseLoop:
        if isinstance(loop, ValLoop | TestLoop) and any(isinstance(m, Accuracy) for m in loop.evaluator.metrics):
            check_outputs(loop.dataloader.dataset, num_outputs(unwrap_model(self.model)))
        return loop


class TeacherRunner(Runner):
    """A runner whose model is a teacher: with all of its weights, from ``load_from`` where set, and never trained.

    Weights may come from nowhere only if the config says ``random_teacher=True``.
    """

    def build_model(self, model: dict) -> nn.Module:
        checkpoint, self._load_from = self._load_from, None
        return build_teacher(model, checkpoint, self.cfg.get('random_teacher', False))

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        return model.to(get_device())  # DistributedDataParallel refuses a model without gradients
