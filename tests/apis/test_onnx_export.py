"""Exported files compute in onnxruntime what PyTorch computes, at any batch size; BatchNorm is gone."""
import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmengine.registry import MODELS

from mmtinyvit.apis import onnx_export
from mmtinyvit.apis.models import get_model
from mmtinyvit.apis.networks import count_macs
from mmtinyvit.apis.publish import pack_weights
from mmtinyvit.errors import UserError
from mmtinyvit.paths import config_root

# Two stages, since exporting takes seconds per stage. At 224, 384 and 512 pixels windows divide the map, as in TinyViT.
ARCH = dict(embed_dims=(8, 16), depths=(1, 1), num_heads=(1, 2))
WINDOWS = {224: (7, 14), 384: (7, 24), 512: (7, 32)}


@pytest.fixture
def small(tmp_path):
    """A config of a small TinyViT, and weights in which every tensor matters."""
    return write_small(tmp_path, 224)


def write_small(folder, side: int):
    base = config_root() / 'tinyvit/tiny_vit_5m_finetune_in1k.py'
    arch = dict(ARCH, window_sizes=WINDOWS[side], _delete_=True)
    config, weights = folder / 'small.py', folder / 'small.pth'
    config.write_text(f'_base_ = {str(base)!r}\n'
                      f'model = dict(backbone=dict(arch={arch!r}, out_indices=(1, )), head=dict(in_channels=16))\n')
    torch.manual_seed(0)
    state = get_model(config).state_dict()
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape) * .2)
    weights.write_bytes(pack_weights(state, '.pth'))
    return config, weights


def compare(path, reference, size, names) -> None:
    """Fresh images, batches that the exporter has not seen, and a reference that was never folded."""
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    assert 'BatchNormalization' not in {node.op_type for node in graph.graph.node}
    meta = {each.key: each.value for each in graph.metadata_props}
    assert (meta['height'], meta['width'], meta['channels']) == (str(size[0]), str(size[1]), 'RGB')
    assert [round(float(x), 2) for x in meta['mean'].strip('[]').split(',')] == [123.68, 116.28, 103.53]
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    assert [each.name for each in session.get_outputs()] == names
    assert session.get_inputs()[0].shape[1:] == [3, *size]
    for batch in (1, 5):
        images = torch.randn(batch, 3, *size)
        with torch.no_grad():
            expected = reference(images)
        for ours, theirs in zip(session.run(None, dict(images=images.numpy())), expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize('size', [224, 384, 512])
def test_classification(run_tool, tmp_path, size):
    config, weights = write_small(tmp_path, size)
    given = [] if size == 224 else ['--size', size]  # the size of its test
    ended = run_tool('export_onnx', config, tmp_path / 'net.onnx', '--checkpoint', weights, *given)
    assert ended.status == 0, ended.err
    assert '(batch, 3,' in ended.out
    model = get_model(config, pretrained=weights)
    compare(tmp_path / 'net.onnx', lambda images: [model(images, mode='tensor')], (size, size), ['logits'])


@pytest.mark.parametrize('test, preprocessor, size', [
    ([dict(type='CenterCrop', crop_size=64)], {}, (64, 64)), ([dict(type='Resize', scale=(96, 48))], {}, (48, 96)),
    ([], {}, None), ([dict(type='ResizeEdge', scale=64)], {}, None), ([], dict(input_size=160), (160, 160))])
def test_the_size_is_that_of_the_test(small, tmp_path, test, preprocessor, size):
    pipeline = [dict(type='mmtinyvit.LoadImage'), *test, dict(type='PackInputs')]
    config = tmp_path / 'sized.py'
    config.write_text(f'_base_ = {str(small[0])!r}\n'
                      f'test_dataloader = dict(dataset=dict(pipeline={pipeline!r}))\n'
                      f'data_preprocessor = {preprocessor!r}\n')
    if size:
        assert onnx_export.image_size(get_model(config)) == size
    else:
        with pytest.raises(UserError, match='no fixed size, .*--size PIXELS'):
            onnx_export.image_size(get_model(config))


def test_class_names(small, tmp_path):
    model = get_model(small[0], head=dict(num_classes=3))
    model._dataset_meta = dict(classes=('cat', 'Hündin', '#3'))
    onnx_export.export_onnx(model, tmp_path / 'named.onnx', (32, 32))
    meta = onnxruntime.InferenceSession(tmp_path / 'named.onnx').get_modelmeta().custom_metadata_map
    assert json.loads(meta['classes']) == ['cat', 'Hündin', '#3']


def test_features(run_tool, tmp_path):
    """Of all four stages, at an odd size: a network of its own, with random weights."""
    arch = dict(embed_dims=(8, ) * 4, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), _delete_=True)
    config, weights = tmp_path / 'maps.py', tmp_path / 'maps.pth'
    base = config_root() / 'tinyvit/tiny_vit_5m_finetune_in1k.py'
    config.write_text(f'_base_ = {str(base)!r}\nmodel = dict(backbone=dict(arch={arch!r}), head=dict(in_channels=8))\n')
    weights.write_bytes(pack_weights(get_model(config).state_dict(), '.pth'))
    ended = run_tool('export_onnx', config, tmp_path / 'maps.onnx', '--checkpoint', weights, '--features', '--size',
                     33, 50)
    assert ended.status == 0, ended.err
    model = get_model(config, pretrained=weights, head=None,
                      backbone=dict(out_indices=(0, 1, 2, 3), gap_before_output=False))
    compare(tmp_path / 'maps.onnx', model.backbone, (33, 50), [f'stage{i}' for i in range(4)])


def test_images_of_four_channels(run_tool, small, tmp_path):
    """Published, too: the file brings its channels along."""
    config, weights = tmp_path / 'four.py', tmp_path / 'four.pth'
    config.write_text(f"_base_ = '{small[0]}'\nmodel = dict(backbone=dict(in_channels=4))\n"
                      'data_preprocessor = dict(mean=[1., 2., 3., 4.], std=[5., 6., 7., 8.], to_rgb=False)\n')
    weights.write_bytes(pack_weights(get_model(config).state_dict(), '.pth'))
    assert run_tool('publish_model', config, weights, tmp_path / 'out/four.pth').status == 0
    published, = (tmp_path / 'out').iterdir()
    ended = run_tool('export_onnx', published, tmp_path / 'four.onnx', '--size', 32)
    assert ended.status == 0, ended.err
    meta = {each.key: each.value for each in onnx.load(tmp_path / 'four.onnx').metadata_props}
    assert (meta['channels'], meta['mean']) == ('4', '[1.0, 2.0, 3.0, 4.0]')
    session = onnxruntime.InferenceSession(tmp_path / 'four.onnx', providers=['CPUExecutionProvider'])
    assert session.get_inputs()[0].shape[1:] == [4, 32, 32]
    images = torch.randn(3, 4, 32, 32)
    with torch.no_grad():
        expected = get_model(published)(images, mode='tensor')
    np.testing.assert_allclose(session.run(None, dict(images=images.numpy()))[0], expected.numpy(), rtol=0, atol=1e-4)
    assert count_macs(get_model(published), (32, 32)) > 0


# ---------------------------------------------------------------- what is refused
def test_a_file_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    class Wrong:
        def __init__(self, *_, **__):
            pass

        def run(self, *_):
            return [np.zeros((1, 4), np.float32)]

    monkeypatch.setattr(onnxruntime, 'InferenceSession', Wrong)
    with pytest.raises(UserError, match='computes something else than PyTorch for 1 images .*: nothing was'):
        onnx_export.export_onnx(MODELS.build(dict(
            type='mmpretrain.ImageClassifier', data_preprocessor=dict(mean=[0], std=[1]),
            backbone=dict(type='mmtinyvit.TinyViT', arch=dict(embed_dims=(8, ), num_heads=(1, ), depths=(1, ),
                                                              window_sizes=(7, )), out_indices=(0, )),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=4, in_channels=8))), tmp_path / 'net.onnx', (32, 32))
    assert not (tmp_path / 'net.onnx').exists()


def test_without_the_libraries(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(UserError, match=r'needs onnxscript, which is not installed: run .*mmtinyvit\[export\]'):
        onnx_export.export_onnx(get_model(small[0]), tmp_path / 'net.onnx', (32, 32))


def test_flags(run_tool, small, tmp_path):
    assert 'There is no config nothing.py' in run_tool('export_onnx', 'nothing.py', tmp_path / 'x.onnx').sentence
    assert 'has no weights yet: add --pretrained, or' in run_tool('export_onnx', small[0], tmp_path / 'x.onnx').sentence
    assert 'of TinyViT only' in run_tool('export_onnx', config_root() / 'deit/deit_tiny_in1k.py', tmp_path / 'x.onnx',
                                         '--checkpoint', deit_weights(tmp_path), '--features').sentence
    assert '--size takes one side' in run_tool('export_onnx', small[0], tmp_path / 'x.onnx', '--size', 1, 2, 3).sentence


def deit_weights(folder):
    state = get_model(config_root() / 'deit/deit_tiny_in1k.py').state_dict()
    (folder / 'deit.pth').write_bytes(pack_weights(state, '.pth'))
    return folder / 'deit.pth'
