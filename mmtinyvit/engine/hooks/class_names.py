"""ClassNamesHook: labels, checkpoint and outputs are of the same classes, by name."""
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from mmpretrain.models import BaseClassifier
from mmpretrain.models.heads import MultiLabelClsHead, MultiTaskHead
from timm.utils import unwrap_model

from mmtinyvit.engine.label_check import label_names, map_labels, num_outputs, training_outputs
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.accuracies import MappedAccuracy
from mmtinyvit.evaluation.class_map import checkpoint_classes, require_same_classes
from mmtinyvit.registry import HOOKS

from .start import MapHeadHook, head_tensors, state_of

__all__ = ['ClassNamesHook']

ADVICE = ('give mmtinyvit.MappedAccuracy as the evaluator, with the layout of the head as num_classes, or '
          'mmtinyvit.MapLabel to the pipeline')


@HOOKS.register_module()
class ClassNamesHook(Hook):
    """Compares what classes are called, wherever two lists of them meet in a run of a classifier.

    The outputs of a model are the classes of its store or teacher, or else those of the images it learns from; of a
    model that is only tested, those that its checkpoint names. Labels of a validation or test that number other classes
    are mapped to them by name or synset, and the log says so; where that is not possible, the run stops before it
    begins, and names both lists. Where one side has no names, only numbers of classes are compared.

    ``mmtinyvit train`` and ``mmtinyvit test`` add it to the ``default_hooks`` as ``class_names``; a config that sets
    ``default_hooks=dict(class_names=None)`` goes without.
    """
    priority = 'LOW'  # behind the hooks that read the store, or map the head of a checkpoint

    def __init__(self) -> None:
        self.outputs: tuple[str, ...] | None = None
        self.owner = 'the model'

    # ---------------------------------------------------------------- what the outputs are called
    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        named = checkpoint_classes(checkpoint.get('meta') or {}, checkpoint.get('teacher_store'))
        if not isinstance(runner._train_loop, BaseLoop):
            self.outputs, self.owner = named, f'the checkpoint {runner._load_from}'
            return
        if not named or not _has_labels(runner):
            return
        mapped = any(isinstance(hook, MapHeadHook) for hook in runner.hooks)
        if not runner._resume and (mapped or not _has_head(runner, checkpoint, named)):
            return
        outputs, owner = training_outputs(runner)
        if outputs and len(outputs) == len(named):
            require_same_classes(named, outputs, f'The checkpoint has {{ours}}, and {owner} has {{theirs}}', (
                'resume with the images that it was trained on, or start anew with load_from.' if runner._resume else
                'map its head with mmtinyvit.MapHeadHook, or leave it out with mmtinyvit.NewHeadHook.'))

    def before_train(self, runner: Runner) -> None:
        if _has_labels(runner):
            self.outputs, self.owner = training_outputs(runner)
            if runner.val_loop is not None:
                self._compare(runner, runner.val_loop)

    def before_val(self, runner: Runner) -> None:
        if _has_labels(runner):
            self._compare(runner, runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        if _has_labels(runner):
            self._compare(runner, runner.test_loop)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if 'teacher_store' not in checkpoint and _has_labels(runner):
            outputs = label_names(runner.train_dataloader.dataset)
            checkpoint['meta']['dataset_meta'] = checkpoint['meta'].get('dataset_meta', {}) | dict(classes=outputs)

    # ---------------------------------------------------------------- against the labels of a test
    def _compare(self, runner: Runner, loop: Any) -> None:
        dataset, metrics = loop.dataloader.dataset, loop.evaluator.metrics
        names = label_names(dataset)
        loop.evaluator.dataset_meta = getattr(dataset, 'metainfo', {}) | dict(classes=names)
        runner.visualizer.dataset_meta = dict(classes=self.outputs)  # a picture shows what the model says
        mapping = [metric for metric in metrics if isinstance(metric, MappedAccuracy)]
        for metric in mapping:
            metric.check_head(self.outputs, self.owner)
        if len(mapping) == len(metrics) or names is None:
            return
        if self.outputs is None:
            count = num_outputs(unwrap_model(runner.model))
            if count not in (None, len(names)):
                raise UserError(f'The images of the test are of {len(names)} classes and the model has {count}, and '
                                f'nothing says which of them are the same: {ADVICE}.')
        elif any(type(metric) is MappedAccuracy for metric in mapping):  # which counts on labels as they are
            require_same_classes(self.outputs, names, f'{self.owner} has {{ours}}, and the images of the test are of '
                                 '{theirs}', f'{ADVICE}, without other metrics beside it.')
        else:
            map_labels(dataset, self.outputs, 'the images of the test', self.owner)


def _has_labels(runner: Runner) -> bool:
    """Whether the model of a run is a classifier whose labels are single classes."""
    model = unwrap_model(runner.model)
    several = isinstance(getattr(model, 'head', None), MultiLabelClsHead | MultiTaskHead)
    return isinstance(model, BaseClassifier) and not several


def _has_head(runner: Runner, checkpoint: dict, classes: Sequence[str]) -> bool:
    """Whether a checkpoint has the last layer of its classes."""
    state = state_of(checkpoint)
    return any(len(state[name]) == len(classes) for name in head_tensors(runner.model, state))
