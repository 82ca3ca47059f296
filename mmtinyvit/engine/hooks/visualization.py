"""VisualizationHook: pictures of a classifier's predictions."""
import math
from collections.abc import Sequence
from pathlib import Path

from mmengine.runner import BaseLoop, Runner
from mmpretrain.engine.hooks import VisualizationHook as MMPretrainVisualizationHook
from mmpretrain.structures import DataSample
from timm.utils import unwrap_model

from mmtinyvit.engine.label_check import label_names, num_outputs
from mmtinyvit.evaluation.accuracies import MappedAccuracy
from mmtinyvit.registry import HOOKS

__all__ = ['VisualizationHook']


@HOOKS.register_module()
class VisualizationHook(MMPretrainVisualizationHook):
    """``mmpretrain.VisualizationHook`` in the colours of the image, with and without test-time augmentation.

    After each iteration of a validation or test: draws every ``interval``-th image with its label and prediction; where
    :class:`.MappedAccuracy` reads labels of other classes than the model has, the prediction alone. mmpretrain's takes
    the images for RGB before they are, and writes one picture for files of one name in several folders. Of an image
    with several augmentations the first is drawn.

    Args:
        **kwargs: Of ``mmpretrain.VisualizationHook``. A picture in ``out_dir`` is called ``FOLDER_FILE_EPOCH.png``.
    """

    def before_run(self, runner: Runner) -> None:
        self.swap = getattr(unwrap_model(runner.model).data_preprocessor, 'to_rgb', False)

    def before_val(self, runner: Runner) -> None:
        self._begin(runner, runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        self._begin(runner, runner.test_loop)

    def _begin(self, runner: Runner, loop: BaseLoop) -> None:
        self.seen = 0  # images
        mapped = self.enable and any(isinstance(metric, MappedAccuracy) for metric in loop.evaluator.metrics)
        if mapped and len(label_names(loop.dataloader.dataset) or ()) != num_outputs(unwrap_model(runner.model)):
            self.draw_args['draw_gt'] = False

    def _draw_samples(self, batch_idx: int, data_batch: dict, data_samples: Sequence[DataSample],
                      step: int = 0) -> None:
        if not self.enable:
            return
        images, start = data_batch['inputs'], self.seen
        self.seen += len(data_samples)  # the last batch may be smaller
        if len(images) and isinstance(data_batch['data_samples'][0], Sequence):  # one batch for each augmentation
            images = images[0]
        for number in range(math.ceil(start / self.interval) * self.interval, self.seen, self.interval):
            image, sample = images[number - start], data_samples[number - start]
            image = (image.flip(0) if self.swap else image).permute(1, 2, 0).cpu().numpy().astype('uint8')  # (H, W, 3)
            name = '_'.join(Path(sample.img_path).parts[-2:]) if 'img_path' in sample else str(number)
            out_file = self.out_dir and str(Path(self.out_dir, f'{name}_{step}.png'))
            self._visualizer.visualize_cls(image, sample, name=name, step=step, out_file=out_file, **self.draw_args)
