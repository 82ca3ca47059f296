"""Real photos of COCO through the command line and mmdet's test flow; `benchmarks/detection.py` is the long form."""
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from tiny_detection import TINY, detector, few_photos
from tiny_flow import scalars

pytestmark = pytest.mark.realdata
DATA = os.environ.get('MMTINYVIT_DATA')


@pytest.fixture(scope='module')
def coco():
    if not DATA:
        pytest.skip('MMTINYVIT_DATA is not set')
    return Path(DATA, 'coco_mini_ccby')


def test_train_evaluate_resume_and_test(coco, classifiers, run_tool, tmp_path):
    """Boxes and masks, judged by CocoMetric."""
    cfg = detector('detection/mask_rcnn_tiny_vit_5m_fpn_1x_coco', coco, tmp_path / 'work', classifiers(TINY), TINY)
    cfg.train_dataloader.dataset.indices, cfg.val_dataloader.dataset.indices = 6, 3
    cfg.test_dataloader.dataset.indices = 3
    cfg.model.test_cfg.rcnn.update(score_thr=0., max_per_img=5)
    cfg.default_hooks.logger.interval = 1
    cfg.dump(tmp_path / 'config.py')

    first = run_tool('train', tmp_path / 'config.py')
    assert first.status == 0, first.err
    assert 'TinyViT: all ' in first.out and 'tensors filled from' in first.out
    lines = scalars(tmp_path / 'work')
    assert [line['step'] for line in lines if 'loss' in line] == [1, 2, 3]
    evaluated, = (line for line in lines if 'coco/bbox_mAP' in line)
    assert 0 <= evaluated['coco/segm_mAP'] <= 1 and 0 <= evaluated['coco/bbox_mAP'] <= 1

    second = run_tool('train', tmp_path / 'config.py', '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    assert second.status == 0, second.err
    assert [line['step'] for line in scalars(tmp_path / 'work') if 'loss' in line] == [1, 2, 3, 4, 5, 6]
    once, twice = (torch.load(tmp_path / f'work/epoch_{n}.pth', weights_only=False) for n in (1, 2))
    assert (once['meta']['iter'], twice['meta']['iter']) == (3, 6)
    assert {int(state['step']) for state in twice['optimizer']['state'].values()} == {6}

    tested = run_tool('test', tmp_path / 'config.py', tmp_path / 'work/epoch_2.pth', '--out', tmp_path / 'metrics.json')
    assert tested.status == 0, tested.err
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    again = [line for line in scalars(tmp_path / 'work') if 'coco/bbox_mAP' in line]
    assert metrics['coco/bbox_mAP'] == again[1]['coco/bbox_mAP'] and 'coco/segm_mAP_50' in metrics


def test_learns_three_photos_by_heart(coco, tmp_path):
    """A RetinaNet of 0.4 million parameters, from random weights, tested on the photos that it trained on."""
    arch = TINY | dict(embed_dims=(16, 32, 48, 64), num_heads=(1, 1, 2, 2))
    iters = 110
    cfg = detector('detection/retinanet_tiny_vit_5m_fpn_1x_coco', coco, tmp_path, None, arch, side=96)
    photos = str(few_photos(coco, tmp_path / 'few.json', 3))
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.update(ann_file=photos, data_prefix=dict(img='train2017/'))
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = photos
    cfg.train_dataloader.update(batch_size=3, batch_sampler=None, sampler=dict(type='InfiniteSampler', shuffle=True))
    cfg.train_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(192, 96), keep_ratio=True), dict(type='PackDetInputs')
    ]
    cfg.model.backbone.norm_eval = False  # statistics of random weights are worth nothing
    cfg.model.neck.out_channels = 32
    cfg.model.bbox_head.update(in_channels=32, feat_channels=32, stacked_convs=2)
    cfg.optim_wrapper.optimizer.update(lr=2e-3, weight_decay=0.)
    cfg.optim_wrapper.paramwise_cfg.layer_decay_rate = 1.
    cfg.auto_scale_lr.enable = False
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=.01, by_epoch=False, end=15),
                           dict(type='CosineAnnealingLR', by_epoch=False, begin=15, end=iters, eta_min=0)]
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iters, val_interval=iters)
    cfg.log_processor.by_epoch = False
    cfg.default_hooks.checkpoint.update(interval=10 * iters, save_last=False, by_epoch=False)
    cfg.default_hooks.logger.interval = 5
    runner = Runner.from_cfg(cfg)
    runner.train()
    losses = [line['loss'] for line in scalars(tmp_path) if 'loss' in line]
    assert np.mean(losses[-4:]) < .2 * np.mean(losses[:4])
    assert runner.message_hub.get_scalar('val/coco/bbox_mAP_50').current() > .9
    assert runner.message_hub.get_scalar('val/coco/bbox_mAP').current() > .7
