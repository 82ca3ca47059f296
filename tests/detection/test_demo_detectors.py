"""The demo's two detectors differ in their first weights alone, and both train on the canvases."""
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from tiny_flow import scalars

from mmtinyvit.paths import config_root

DEMO = config_root() / 'demo'


def test_they_differ_in_their_first_weights_alone():
    distilled, random = (Config.fromfile(DEMO / f'{name}.py').to_dict() for name in ('detect', 'detect_scratch'))
    inits = [cfg['model']['backbone'].pop('init_cfg') for cfg in (distilled, random)]
    assert distilled == random
    assert inits[0]['type'] == 'Pretrained' and inits[0]['checkpoint'] == 'work_dirs/demo/distill/last.pth'
    student = Config.fromfile(DEMO / 'distill.py').model.backbone
    assert distilled['model']['backbone']['arch'] == student.arch


def test_a_few_iterations(tmp_path, monkeypatch, run_tool):
    """Through the command line, from the student's checkpoint, with the digits that the demo writes."""
    monkeypatch.chdir(tmp_path)
    Path('work_dirs/demo/distill').mkdir(parents=True)
    run_tool('dataset_converters/digits', 'work_dirs/demo/digits')
    run_tool('dataset_converters/digit_canvases', 'work_dirs/demo/digits', 'work_dirs/demo/canvases', '--train', 8,
             '--val', 2)
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(DEMO / 'distill.py')
    student = MODELS.build(cfg.model.to_dict() | dict(data_preprocessor=cfg.data_preprocessor))
    torch.save(dict(state_dict=student.state_dict()), 'work_dirs/demo/distill/last.pth')
    ended = run_tool('train', 'configs/demo/detect.py', '--cfg-options', 'train_cfg.max_iters=4',
                     'train_cfg.val_interval=4', 'train_dataloader.num_workers=0', 'default_hooks.logger.interval=1',
                     'train_dataloader.persistent_workers=False', 'model.test_cfg.score_thr=0.')
    assert ended.status == 0, ended.err
    assert 'tensors filled from work_dirs/demo/distill/last.pth (under backbone.)' in ended.out
    lines = scalars('work_dirs/detect')
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert len(losses) == 4 and np.isfinite(losses).all()
    assert 0 <= lines[-1]['coco/bbox_mAP'] <= 1
