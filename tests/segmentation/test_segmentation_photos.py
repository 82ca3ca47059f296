"""Real photos of COCO through the command line and mmseg's test flow; `benchmarks/segmentation.py` is the long form."""
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image
from tiny_flow import scalars
from tiny_segmentation import photo_classes, segmenter

pytestmark = pytest.mark.realdata
DATA = os.environ.get('MMTINYVIT_DATA')


@pytest.fixture(scope='module')
def photos():
    if not DATA:
        pytest.skip('MMTINYVIT_DATA is not set')
    return Path(DATA, 'coco_semseg')


@pytest.mark.parametrize('name', ['semantic_fpn_tiny_vit_5m_80k_ade20k', 'upernet_tinymim_tiny_160k_ade20k'])
def test_train_evaluate_resume_test_and_draw(name, photos, classifier, vit, run_tool, tmp_path):
    checkpoint = vit if 'tinymim' in name else classifier
    cfg = segmenter(f'segmentation/{name}', photos, tmp_path / 'work', photo_classes(photos), checkpoint)
    cfg.val_dataloader.dataset.indices = cfg.test_dataloader.dataset.indices = 1
    cfg.dump(tmp_path / 'config.py')

    first = run_tool('train', tmp_path / 'config.py')
    assert first.status == 0, first.err
    assert 'tensors filled from' in first.out
    lines = scalars(tmp_path / 'work')
    assert [line['step'] for line in lines if 'loss' in line] == [1, 2]
    evaluated, = (line for line in lines if 'mIoU' in line)
    assert 0 <= evaluated['mIoU'] <= 100

    second = run_tool('train', tmp_path / 'config.py', '--resume', '--cfg-options', 'train_cfg.max_iters=4')
    assert second.status == 0, second.err
    assert [line['step'] for line in scalars(tmp_path / 'work') if 'loss' in line] == [1, 2, 3, 4]
    last = torch.load(tmp_path / 'work/iter_4.pth', weights_only=False)
    assert {int(state['step']) for state in last['optimizer']['state'].values()} == {4}

    tested = run_tool('test', tmp_path / 'config.py', tmp_path / 'work/iter_4.pth', '--out', tmp_path / 'metrics.json',
                      '--work-dir', tmp_path / 'test', '--cfg-options', 'default_hooks.visualization.draw=True')
    assert tested.status == 0, tested.err
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    again = [line for line in scalars(tmp_path / 'work') if 'mIoU' in line]
    assert metrics['mIoU'] == again[1]['mIoU'] and 'aAcc' in metrics
    drawn = sorted((tmp_path / 'test').glob('*/vis_data/vis_image/*.png'))
    name = min(path.name for path in (photos / 'images/val').iterdir())
    assert [path.name for path in drawn] == [f'test_{name}_1.png']
    side_by_side, photo = Image.open(drawn[0]), Image.open(photos / 'images/val' / name)
    assert side_by_side.size == (2 * photo.width, photo.height)  # truth and prediction


def test_learns_three_photos_by_heart(photos, tmp_path):
    """A Semantic FPN of 0.2 million parameters, from random weights, tested on the photos that it trained on."""
    iters = 60
    classes = photo_classes(photos)
    cfg = segmenter('segmentation/semantic_fpn_tiny_vit_5m_80k_ade20k', photos, tmp_path, classes, side=96)
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.update(
            data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'), indices=3)
    cfg.train_dataloader.batch_size = 3
    load, truth = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')
    resize, pack = dict(type='Resize', scale=(96, 96)), dict(type='PackSegInputs')
    cfg.train_dataloader.dataset.pipeline = [load, truth, resize, pack]
    cfg.val_dataloader.dataset.pipeline = [load, resize, truth, pack]
    cfg.model.backbone.update(arch=dict(embed_dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2),
                                        window_sizes=(7, 4, 4, 4)), norm_eval=False)  # random statistics are no use
    cfg.model.neck.update(in_channels=[16, 32, 48, 64], out_channels=32)
    cfg.model.decode_head.update(in_channels=[32] * 4, channels=32, dropout_ratio=0.)
    cfg.optim_wrapper.optimizer.update(lr=4e-3, weight_decay=0.)
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=.05, by_epoch=False, end=10),
                           dict(type='CosineAnnealingLR', by_epoch=False, begin=10, end=iters, eta_min=0)]
    cfg.train_cfg.update(max_iters=iters, val_interval=iters)
    cfg.default_hooks.checkpoint = None
    init_default_scope('mmseg')
    runner = Runner.from_cfg(cfg)
    runner.train()
    losses = [line['loss'] for line in scalars(tmp_path) if 'loss' in line]
    assert np.mean(losses[-4:]) < .15 * np.mean(losses[:4])
    assert runner.message_hub.get_scalar('val/aAcc').current() > 87
    assert runner.message_hub.get_scalar('val/mIoU').current() > 55
