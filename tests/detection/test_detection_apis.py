"""mmdet's own ways to use a detector, the tools' sentences where something is missing, and padded batches."""
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.structures import DetDataSample
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from PIL import Image
from tiny_detection import TINY, detector

from mmtinyvit.models.backbones import TinyViT

RETINANET, MASK_RCNN = 'detection/retinanet_tiny_vit_5m_fpn_1x_coco', 'detection/mask_rcnn_tiny_vit_5m_fpn_1x_coco'


# ---------------------------------------------------------------- inference
@pytest.fixture(scope='module')
def trained(rectangles, classifiers, tmp_path_factory):
    """Config file and checkpoint of a Mask R-CNN that finds five things in every image."""
    folder = tmp_path_factory.mktemp('trained')
    cfg = detector(MASK_RCNN, rectangles, folder, classifiers(TINY), TINY)
    cfg.model.test_cfg.rcnn.update(score_thr=0., max_per_img=5)
    cfg.model.backbone.init_cfg.checkpoint = 'not/needed/to/use/it.pth'
    cfg.dump(folder / 'config.py')
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=('a', ) * 80))),
               folder / 'weights.pth')
    return str(folder / 'config.py'), str(folder / 'weights.pth')


def test_init_and_inference_detector(trained, rectangles):
    model = init_detector(*trained, device='cpu')
    assert not model.training
    path = str(rectangles / 'val2017/000.png')
    by_path = inference_detector(model, path)
    by_array = inference_detector(model, np.array(Image.open(path))[..., ::-1].copy())
    found = by_path.pred_instances
    assert len(found) == 5 and found.masks.shape == (5, *by_path.ori_shape)
    assert torch.equal(found.bboxes, by_array.pred_instances.bboxes)


def test_det_inferencer_draws_its_result(trained, rectangles, tmp_path):
    inferencer = DetInferencer(*trained, device='cpu', show_progress=False)
    path = rectangles / 'val2017/001.png'
    result = inferencer(str(path), out_dir=str(tmp_path), pred_score_thr=0., no_save_pred=False)
    assert len(result['predictions'][0]['bboxes']) == 5
    drawn = np.array(Image.open(tmp_path / 'vis/001.png').convert('RGB'))
    plain = np.array(Image.open(path))
    assert drawn.shape == plain.shape and (drawn != plain).any()
    assert (tmp_path / 'preds/001.json').is_file()


def test_the_tool_merges_mirror_images_and_draws(trained, rectangles, run_tool, tmp_path):
    refused = run_tool('test', *trained, '--work-dir', tmp_path, '--tta')
    assert refused.sentence == 'mmdet merges boxes and no masks, which MaskRCNN finds: leave --tta out.'

    cfg = detector(RETINANET, rectangles, tmp_path / 'boxes', None, TINY)
    cfg.model.bbox_head.num_classes = 3  # of the rectangles
    cfg.model.test_cfg.update(score_thr=0., max_per_img=5)
    cfg.default_hooks.visualization.score_thr = 0.
    cfg.dump(tmp_path / 'config.py')
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), tmp_path / 'weights.pth')
    ended = run_tool('test', tmp_path / 'config.py', tmp_path / 'weights.pth', '--tta', '--show-dir', 'pictures')
    assert ended.status == 0, ended.err
    drawn = sorted(tmp_path.glob('boxes/*/pictures/*'))  # within the run's folder, as mmdet's tool does
    assert [path.name for path in drawn] == ['000.png', '001.png']
    for path in drawn:
        picture, photo = (np.array(Image.open(each).convert('RGB'))
                          for each in (path, rectangles / 'val2017' / path.name))
        truth, found = np.split(picture, 2, axis=1)
        assert truth.shape == photo.shape and (truth != photo).any() and (found != photo).any()


# ---------------------------------------------------------------- what the tools say
def test_no_data(run_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = f'configs/{RETINANET}.py'
    for tool, args in (('train', []), ('test', [__file__])):
        sentence = run_tool(tool, config, *args).sentence
        assert 'needs data/coco, which does not exist: get the 2017 images and annotations from http' in sentence
    Path('data/coco/annotations').mkdir(parents=True)
    Path('data/coco/annotations/instances_train2017.json').write_text('{}')
    assert 'needs data/coco/train2017, which does not exist' in run_tool('train', config).sentence
    assert not Path('work_dirs').exists()


def test_no_pretrained_weights(run_tool, rectangles, tmp_path):
    detector(RETINANET, rectangles, tmp_path / 'work', tmp_path / 'nothing.pth', TINY).dump(tmp_path / 'config.py')
    assert run_tool('train', tmp_path / 'config.py').sentence == (
        f'There is no checkpoint {tmp_path}/nothing.pth: check the path.')
    ended = run_tool('train', tmp_path / 'config.py', '--cfg-options', 'load_from=other.pth')
    assert ended.sentence == 'There is no checkpoint other.pth: check the path.'


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_amp_without_a_gpu(run_tool, rectangles, tmp_path):
    detector(RETINANET, rectangles, tmp_path / 'work', None, TINY).dump(tmp_path / 'config.py')
    assert run_tool('train', tmp_path / 'config.py', '--amp').sentence.startswith('--amp needs a GPU')


def test_no_operators(run_tool, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv._ext', None)
    sentence = run_tool('train', f'configs/{RETINANET}.py').sentence
    assert "needs mmcv's compiled operators, which this environment does not have" in sentence


def test_no_mmdet(run_tool, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmdet', None)
    monkeypatch.setattr('mmengine.config.config.is_installed', lambda name: name != 'mmdet')
    assert 'needs mmdet, which is not installed' in run_tool('train', f'configs/{RETINANET}.py').sentence


# ---------------------------------------------------------------- padded batches
@pytest.mark.parametrize('size', [(32, 32), (67, 91), (80, 61), (33, 200), (1, 5)])
def test_all_maps_at_any_size(size):
    torch.manual_seed(0)
    model = TinyViT(TINY, out_indices=(0, 1, 2, 3), gap_before_output=False).eval()
    images = torch.randn(2, 3, *size)
    maps = model(images)
    for stride, channels, found in zip((4, 8, 16, 32), TINY['embed_dims'], maps, strict=True):
        assert found.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))
    for i in range(2):  # an image does not see its neighbours in the batch
        for alone, together in zip(model(images[i:i + 1]), maps, strict=True):
            torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)


def test_roi_align_sees_the_maps_as_they_are(rectangles):
    """mmcv's RoIAlign takes every map for contiguous and mixes up the pixels of others; torchvision's does not."""
    torch.manual_seed(0)
    init_default_scope('mmdet')
    cfg = detector(MASK_RCNN, rectangles, Path(), None, TINY)
    model = MODELS.build(cfg.model).train()
    model.init_weights()
    maps = model.backbone(torch.randn(2, 3, 96, 128))
    assert all(each.is_contiguous() for each in maps)
    boxes = torch.tensor([[0., 3., 4., 60., 50.], [1., 20., 30., 120., 90.]])
    for extractor in (model.roi_head.bbox_roi_extractor, model.roi_head.mask_roi_extractor):
        for level, layer in zip(model.neck(maps), extractor.roi_layers, strict=False):
            expected = torchvision.ops.roi_align(level, boxes, layer.output_size, layer.spatial_scale, -1, True)
            spread = expected.std()
            torch.testing.assert_close(layer(level, boxes) / spread, expected / spread, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('divisor', [1, 32])
def test_a_padded_batch_trains_and_predicts(rectangles, divisor):
    """Images of four shapes in one batch; with divisor 1 no map has a size that the next one doubles."""
    torch.manual_seed(0)
    cfg = detector(RETINANET, rectangles, Path(), None, TINY)
    cfg.model.data_preprocessor.pad_size_divisor = divisor
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    shapes = [(67, 91), (80, 61), (50, 50), (33, 75)]
    samples = []
    for height, width in shapes:
        boxes = torch.tensor([[5., 5., width - 5., height - 5.]])
        samples.append(DetDataSample(
            metainfo=dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1., 1.)),
            gt_instances=InstanceData(bboxes=boxes, labels=torch.tensor([2]))))
    inputs = [torch.randint(0, 256, (3, *shape), dtype=torch.uint8) for shape in shapes]
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=samples), True)
    assert data['inputs'].shape[2:] == ((80, 91) if divisor == 1 else (96, 96))
    losses = model.train()(**data, mode='loss')
    assert all(torch.isfinite(value).all() for values in losses.values() for value in values)
    model.eval()
    model.bbox_head.test_cfg.score_thr = 0.
    with torch.no_grad():
        for found, (height, width) in zip(model(**data, mode='predict'), shapes, strict=True):
            boxes = found.pred_instances.bboxes
            assert len(boxes) and boxes.min() >= 0
            assert boxes[:, 2].max() <= width and boxes[:, 3].max() <= height
