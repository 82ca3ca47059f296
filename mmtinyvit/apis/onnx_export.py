"""Classifiers and backbones as ONNX files, compared with PyTorch before they are written."""
import json
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.models.backbones import TinyViT

from .networks import input_channels
from .publish import write_file

__all__ = ['Exported', 'export_onnx', 'image_size']

BATCHES = (1, 3)  # compared; the graph is recorded with two images
TOLERANCE = 1e-4
PHOTOS = (600, 450), (350, 800)  # height and width of what the test pipeline is tried on


class Exported(NamedTuple):
    """Shape of the images, names and shapes of the outputs, their largest absolute difference to PyTorch, opset and
    size of the file."""
    images: list
    outputs: list[tuple[str, list]]
    difference: float
    opset: int
    num_bytes: int


class _Exported(nn.Module):
    """The logits, or the maps behind all stages, whatever the backbone itself gives."""

    def __init__(self, classifier: nn.Module, features: bool) -> None:
        super().__init__()
        self.classifier, self.features = classifier, features

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if not self.features:
            return (self.classifier(images, mode='tensor'), )
        x, maps = self.classifier.backbone.patch_embed(images), []
        for stage in self.classifier.backbone.stages:
            x = stage(x)
            maps.append(x.contiguous())
        return tuple(maps)


def image_size(classifier: nn.Module) -> tuple[int, int]:
    """Height and width in pixels of the images that a network gets in its test, whatever the photo.

    Args:
        classifier: From :func:`~mmtinyvit.apis.models.get_model`, which knows the test pipeline.

    Raises:
        UserError: The size follows the photo's.
    """
    side = getattr(classifier.data_preprocessor, 'input_size', None)
    if side:
        return side, side
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        pipeline = Compose(classifier._config.test_dataloader.dataset.pipeline)
    sizes = set()
    for height, width in PHOTOS:
        photo = np.zeros((height, width, 3), np.uint8)
        made = pipeline(dict(img=photo, img_shape=photo.shape[:2], ori_shape=photo.shape[:2]))
        sizes.add(tuple(made['inputs'].shape[-2:]))
    if len(sizes) > 1:
        raise UserError('The images of this model have no fixed size, since its test pipeline leaves them as large as '
                        'they come: say --size PIXELS.')
    return sizes.pop()


def export_onnx(classifier: nn.Module, path: Path, size: tuple[int, int], features: bool = False) -> Exported:
    """Write a model as one ONNX file with a free batch size.

    BatchNorms are folded into their convolutions, in ``classifier`` as well. Height and width are fixed. The file's
    metadata hold how to prepare an image: ``mean`` and ``std`` over pixels from 0 to 255, the order of the
    ``channels`` (``RGB``, ``BGR``, or their number where they are not three), ``height`` and ``width``, and as JSON the
    names of the ``classes`` where they are known.

    Args:
        classifier: From :func:`~mmtinyvit.apis.models.get_model`, on the CPU. It is left in eval mode.
        path: The file.
        size: Height and width in pixels.
        features: Instead of ``logits`` ``(B, C)``, the maps behind the stages of a TinyViT, ``stage0`` and so on.

    Raises:
        UserError: ``onnx`` and its companions are not installed, ``features`` are wanted of another network, the file
            cannot be written, or onnxruntime computes something else: more than 1e-4 apart, relative to the largest
            output where that is above 1.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f'The export to ONNX needs {error.name}, which is not installed: run `make env` in a clone, or '
                        '`pip install mmtinyvit[export]`.') from error
    classifier.eval()
    backbone = getattr(classifier, 'backbone', None)
    if isinstance(backbone, TinyViT):
        backbone.fuse()
    elif features:
        raise UserError('Feature maps are exported of TinyViT only: leave out --features for this model.')
    module = _Exported(classifier, features)
    channels = input_channels(classifier)
    names = [f'stage{i}' for i in range(len(backbone.stages))] if features else ['logits']
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # PyTorch's exporter warns about PyTorch
        program = torch.onnx.export(
            module, (torch.randn(2, channels, *size, generator=generator), ), dynamo=True, verbose=False,
            input_names=['images'], output_names=names, dynamic_shapes=({0: torch.export.Dim('batch')}, ))
    preprocessor = classifier.data_preprocessor
    program.model.metadata_props.update(
        {name: str(getattr(preprocessor, name).flatten().tolist()) for name in ('mean', 'std')
         if hasattr(preprocessor, name)},
        channels=str(channels) if channels != 3 else 'RGB' if preprocessor.to_rgb else 'BGR',
        height=str(size[0]), width=str(size[1]))
    classes = (getattr(classifier, '_dataset_meta', None) or {}).get('classes')
    if classes and not features:
        program.model.metadata_props['classes'] = json.dumps(list(classes))
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    difference = 0.
    for batch in BATCHES:
        images = torch.randn(batch, channels, *size, generator=generator)
        with torch.no_grad():
            ours = module(images)
        for one, other in zip(ours, session.run(None, {'images': images.numpy()}), strict=True):
            off = (one - torch.from_numpy(other)).abs().max().item()
            if not off <= TOLERANCE * max(1., one.abs().max().item()):
                raise UserError(f'onnxruntime computes something else than PyTorch for {batch} images ({off:.1e} '
                                'apart): nothing was written; try the versions of requirements/export.txt.')
            difference = max(difference, off)
    write_file(path, content)
    opset = next(entry.version for entry in program.model_proto.opset_import if not entry.domain)
    outputs = [(output.name, output.shape) for output in session.get_outputs()]
    return Exported(session.get_inputs()[0].shape, outputs, difference, opset, len(content))
