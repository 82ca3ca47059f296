"""Mobile-Former's recipes: they build at full size, train small, and hold the published numbers."""
import ast
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner
from tiny_detection import detector, write_rectangles
from tiny_recipes import load_recipe, on_a_few_images, save_store, store_read_by, write_world

from mmtinyvit.apis.networks import count_parameters
from mmtinyvit.paths import config_root
from projects.mobile_former.mobile_former import ARCHS, MobileFormer

FOLDER = Path(__file__).resolve().parents[1] / 'configs'
NAMES = sorted(path.stem for path in FOLDER.glob('*.py'))
FROM_LABELS = [f'mobile_former_{arch}_in1k' for arch in ARCHS]
STUDENTS = ['mobile_former_294m_distill_in1k', 'mobile_former_294m_distill_in21k']
RETINANET = 'retinanet_mobile_former_294m_fpn_1x_coco'
SMALL = dict(stem=8, token_dims=16, num_tokens=3, head_channels=32, blocks=[
    ('lite', 2, 8, 2), ('mobile', 2, 8), ('down', 2, 8, 2, 2), ('down', 2, 16, 2, 2), ('down', 2, 16, 2, 2)])
PUBLISHED = {  # rate, weight decay, dropout, mixup, transforms, parameters with 1,000 classes
    '508m': (1e-3, .20, .3, .2, 4, 13_976_976), '294m': (1e-3, .20, .3, .2, 4, 11_422_648),
    '214m': (9e-4, .15, .2, .2, 4, 9_425_920), '151m': (9e-4, .10, .2, .2, 4, 7_595_828),
    '96m': (8e-4, .10, .2, 0, 3, 4_585_252), '52m': (8e-4, .10, .2, .2, 2, 3_469_092),
    '26m': (8e-4, .08, .1, .2, 3, 3_232_788),
}


def test_every_recipe_is_tested_here():
    assert sorted([*FROM_LABELS, *STUDENTS, RETINANET]) == NAMES


@pytest.mark.parametrize('name', NAMES)
def test_opens_with_command_cost_and_result(name):
    text = ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text()))
    assert f'projects/mobile_former/configs/{name}.py' in text and 'Cost' in text and 'esult' in text


@pytest.mark.parametrize('arch', ARCHS)
def test_numbers_are_the_published_ones(arch):
    cfg = load_recipe(FOLDER / f'mobile_former_{arch}_in1k.py')
    rate, decay, dropout, mixup, transforms, parameters = PUBLISHED[arch]
    assert (cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.weight_decay) == (rate, decay)
    assert cfg.train_cfg.max_epochs == 450 and cfg.auto_scale_lr == dict(enable=True, base_batch_size=1024)
    assert cfg.model.head.dropout == dropout and cfg.model.head.loss.label_smooth_val == .1
    assert (cfg.data_preprocessor.mixing or dict(mixup_alpha=0))['mixup_alpha'] == mixup
    assert (cfg.train_dataloader.sampler.type == 'mmtinyvit.PairedSampler') == bool(mixup)
    kinds = [each['type'].removeprefix('mmtinyvit.') for each in cfg.train_dataloader.dataset.pipeline[1]['transforms']]
    assert kinds == ['RandomResizedCrop', 'RandomFlip', 'RandAugment', 'RandomErasing'][:transforms]
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert count_parameters(model) == parameters


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp('world'))


@pytest.mark.parametrize('name', ['mobile_former_294m_in1k', 'mobile_former_294m_distill_in1k'])
def test_one_epoch_of_training(name, world, tmp_path, monkeypatch):
    monkeypatch.chdir(world)
    cfg = load_recipe(FOLDER / f'{name}.py')
    store = store_read_by(cfg)
    if store:
        saved = save_store(load_recipe(config_root() / 'teachers/timm_in1k.py'), tmp_path)
        assert saved.num_classes == cfg.model.head.num_classes and saved.topk == 10
        load_recipe(FOLDER / f'{name}.py')
    cfg.model.backbone.arch = SMALL
    cfg.model.head.update(in_channels=16, token_dims=16, hidden_channels=32)
    cfg.experiment_name = name
    runner = Runner.from_cfg(on_a_few_images(cfg, tmp_path / 'work'))
    runner.train()
    assert runner.iter == 2 and runner.message_hub.get_scalar('train/loss').current() > 0
    if store:
        assert 0 <= runner.message_hub.get_scalar('train/teacher_agreement').current() <= 100
        state = torch.load(tmp_path / 'work/epoch_1.pth', weights_only=False)['state_dict']
        assert all(name.startswith(('backbone.', 'head.')) for name in state)  # a plain classifier's


def test_retinanet(tmp_path):
    torch.manual_seed(0)
    classifier = MobileFormer('294m')
    classifier.init_weights()
    state = {f'backbone.{name}': value for name, value in classifier.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'classifier.pth')
    cfg = detector(f'../projects/mobile_former/configs/{RETINANET}',
                   write_rectangles(tmp_path / 'coco', 2, 2), tmp_path / 'work', tmp_path / 'classifier.pth', side=64)
    cfg.experiment_name = RETINANET
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.param_scheduler, cfg.auto_scale_lr.enable = [], False
    runner = Runner.from_cfg(cfg)
    runner.model.init_weights()
    for name, value in runner.model.backbone.state_dict().items():
        assert torch.equal(value, state[f'backbone.{name}']), name
    reached = set()
    for name, parameter in runner.model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: reached.add(name))
    runner.train()
    assert runner.iter == 1 and torch.isfinite(torch.tensor(runner.message_hub.get_scalar('train/loss').current()))
    assert reached == {name for name, p in runner.model.named_parameters() if p.requires_grad}
    rates = sorted({group['lr'] for group in runner.optim_wrapper.optimizer.param_groups})
    assert rates == pytest.approx([1e-4 * .8**depth for depth in range(13, -1, -1)])
