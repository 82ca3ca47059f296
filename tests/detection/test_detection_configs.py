"""Every detection recipe, and one of each detector on small images: weights come in, a step reaches every parameter."""
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from tiny_detection import TINY, detector

from mmtinyvit.engine.checkpoint_runner import CheckpointRunner
from mmtinyvit.errors import UserError
from mmtinyvit.paths import config_root

NAMES = sorted(path.stem for path in (config_root() / 'detection').glob('*.py'))
EMBED_DIMS = {'5m': [64, 128, 160, 320], '11m': [64, 128, 256, 448], '21m': [96, 192, 384, 576]}


def parts(name: str) -> tuple[str, str, str]:
    """Detector, size and schedule of ``mask_rcnn_tiny_vit_5m_fpn_1x_coco``."""
    before, after = name.split('_tiny_vit_')
    size, _, schedule, _ = after.split('_')
    return before, size, schedule


def test_every_combination_is_there():
    wanted = {(method, size, schedule) for size in EMBED_DIMS for method in ('mask_rcnn', 'cascade_mask_rcnn')
              for schedule in ('1x', '3x')} | {('retinanet', size, '1x') for size in EMBED_DIMS}
    assert {parts(name) for name in NAMES} == wanted and len(NAMES) == 15


@pytest.mark.parametrize('name', NAMES)
def test_settings(name):
    cfg = Config.fromfile(config_root() / 'detection' / f'{name}.py')
    method, size, schedule = parts(name)
    assert cfg.model.type == dict(mask_rcnn='MaskRCNN', cascade_mask_rcnn='CascadeRCNN', retinanet='RetinaNet')[method]
    backbone = cfg.model.backbone
    assert backbone.arch == size and backbone.norm_eval and not backbone.gap_before_output
    assert backbone.init_cfg.type == 'Pretrained' and backbone.init_cfg.prefix == 'backbone.'
    assert cfg.model.neck.in_channels == EMBED_DIMS[size]
    epochs, steps = {'1x': (12, [8, 11]), '3x': (36, [27, 33])}[schedule]
    assert cfg.train_cfg.max_epochs == epochs and cfg.param_scheduler[1].milestones == steps
    assert cfg.optim_wrapper.type == 'OptimWrapper'  # --amp makes it AmpOptimWrapper
    assert cfg.optim_wrapper.optimizer.type == 'AdamW' and 'momentum' not in cfg.optim_wrapper.optimizer
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=16)
    masks = method != 'retinanet'
    assert cfg.val_evaluator.metric == (['bbox', 'segm'] if masks else 'bbox')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        step, = (step for step in loader.dataset.pipeline if step['type'] == 'LoadAnnotations')
        assert step['with_mask'] == masks
    kinds = [step['type'] for step in cfg.train_dataloader.dataset.pipeline]
    assert ('RandomChoice' if schedule == '3x' else 'RandomChoiceResize') in kinds


@pytest.mark.parametrize('name', NAMES)
def test_sizes_differ_in_their_network_alone(name):
    """So the training of one size stands for all; `tests/test_configs.py` builds every model."""
    ours, small = (Config.fromfile(config_root() / 'detection' / f'{each}.py').to_dict()
                   for each in (name, re.sub('_(11m|21m)_', '_5m_', name)))
    ours.pop('model'), small.pop('model')
    assert ours == small


@pytest.mark.parametrize('name', [name for name in NAMES if '_5m_' in name and not name.startswith('cascade_mask_rcnn')
                                  ] + ['cascade_mask_rcnn_tiny_vit_11m_fpn_1x_coco'])
def test_one_step(name, rectangles, classifiers, tmp_path):
    size = parts(name)[1]
    cfg = detector(f'detection/{name}', rectangles, tmp_path, classifiers(size), side=64)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint.update(interval=99, save_last=False)
    cfg.param_scheduler, cfg.auto_scale_lr.enable = [], False
    runner = Runner.from_cfg(cfg)
    runner.model.init_weights()
    expected = torch.load(classifiers(size), weights_only=True)['state_dict']
    for key, value in runner.model.backbone.state_dict().items():
        assert torch.equal(value, expected[f'backbone.{key}']), key
    reached = set()
    for key, parameter in runner.model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, key=key: reached.add(key))
    runner.train()
    assert runner.iter == 1 and torch.isfinite(torch.tensor(runner.message_hub.get_scalar('train/loss').current()))
    # a parameter that is left out would stop training on several GPUs
    assert reached == {key for key, p in runner.model.named_parameters() if p.requires_grad}
    rates = sorted({group['lr'] for group in runner.optim_wrapper.optimizer.param_groups})
    assert rates == pytest.approx([1e-4 * .8**depth for depth in range(11, -1, -1)])


def test_a_checkpoint_of_another_size_stops_training(rectangles, classifiers, tmp_path):
    cfg = detector('detection/retinanet_tiny_vit_5m_fpn_1x_coco', rectangles, tmp_path, classifiers('11m'))
    init_default_scope('mmdet')
    with pytest.raises(UserError, match=r'does not fill TinyViT: of \d+ tensors 0 are missing, \d+ are of another'):
        Runner.from_cfg(cfg).train()
    assert not list(Path(tmp_path).glob('*.pth'))


def test_statistics_that_nothing_has_estimated(rectangles, tmp_path):
    """norm_eval keeps those of the start: from random weights that is said once, from a checkpoint it is right."""
    def trained(folder: str, **changes) -> tuple[Runner, str]:
        cfg = detector('detection/retinanet_tiny_vit_5m_fpn_1x_coco', rectangles, tmp_path / folder, arch=TINY, side=64)
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
        cfg.param_scheduler, cfg.auto_scale_lr.enable, cfg.train_cfg.max_epochs = [], False, 2
        cfg.update(changes)
        runner = CheckpointRunner.from_cfg(cfg)
        runner.train()
        return runner, next((tmp_path / folder).glob('*/*.log')).read_text()

    runner, log = trained('random')
    norms = [module for module in runner.model.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert all((norm.running_mean == 0).all() for norm in norms)
    told = f'which keeps the statistics of BatchNorm, and {len(norms)} of its {len(norms)} have the initial ones'
    assert log.count(told) == 1

    for norm in norms:
        norm.running_mean.normal_(), norm.running_var.uniform_(.5, 2.)
    torch.save(dict(state_dict=runner.model.state_dict()), tmp_path / 'detector.pth')
    assert 'keeps the statistics' not in trained('filled', load_from=str(tmp_path / 'detector.pth'))[1]
    with torch.device('meta'):
        MODELS.build(dict(type='mmtinyvit.TinyViT', arch=TINY, norm_eval=True)).train()
