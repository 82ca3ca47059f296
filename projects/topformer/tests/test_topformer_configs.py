"""TopFormer's recipes: the published numbers, and each kind trained for a moment in small."""
import ast
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from tiny_recipes import load_recipe, on_a_few_images, save_store, store_read_by, write_world
from tiny_segmentation import segmenter, write_masks

from mmtinyvit.paths import config_root
from projects.topformer.topformer import TopFormer

FOLDER = Path(__file__).resolve().parents[1] / 'configs'
NAMES = sorted(path.stem for path in FOLDER.glob('*.py'))
SEGMENTERS = [name for name in NAMES if '0k_' in name]
CLASSES = dict(ade20k=150, pascal_context_59=59, pascal_context_60=60, coco_stuff10k=171)
DATASETS = dict(ade20k='ADE20KDataset', pascal_context_59='PascalContextDataset59',
                pascal_context_60='PascalContextDataset', coco_stuff10k='COCOStuffDataset')
PARAMETERS = {  # as a segmenter of 150 classes, and as a classifier of 1,000
    'tiny': (1389654, 1503304), 'small': (3034662, 3105928), 'base': (5062646, 5068872)}
SMALL = dict(channels=(8, 16, 24, 32), num_last_blocks=2, num_heads=2, out_channels=16)


@pytest.mark.parametrize('name', NAMES)
def test_opens_with_command_cost_and_result(name):
    text = ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text()))
    assert f'projects/topformer/configs/{name}.py' in text and 'Cost' in text and 'esult' in text


def test_every_combination_is_there():
    wanted = {f'topformer_{arch}_{kind}in{data}k' for arch in PARAMETERS
              for kind, data in (('', 1), ('distill_', 1), ('distill_', 21))}
    wanted |= {f'topformer_{arch}_{160 if data == "ade20k" else 80}k_{data}' for arch in PARAMETERS for data in CLASSES}
    assert set(NAMES) == wanted | {'topformer_tiny_448_160k_ade20k'}


@pytest.mark.parametrize('name', SEGMENTERS)
def test_numbers_are_the_published_ones(name):
    cfg = load_recipe(FOLDER / f'{name}.py')
    arch, data = name.split('_')[1], name.split('0k_')[1]
    crop = 448 if '448' in name else 480 if 'pascal' in data else 512
    train, test = cfg.train_dataloader.dataset, cfg.test_dataloader.dataset
    assert train.type == test.type == DATASETS[data] and cfg.model.decode_head.num_classes == CLASSES[data]
    assert cfg.model.data_preprocessor.size == train.pipeline[3].crop_size == (crop, crop)
    assert cfg.train_dataloader.batch_size == 2 and 'auto_scale_lr' not in cfg
    steps = 160000 if data == 'ade20k' else 80000
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == steps
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == 1500
    assert cfg.optim_wrapper.optimizer == dict(
        type='AdamW', lr=3e-4 if (arch, data) == ('tiny', 'ade20k') else 1.2e-4, betas=(.9, .999), weight_decay=.01)
    divisors = [step.size_divisor for step in test.pipeline if step.type == 'ResizeToMultiple']
    assert divisors == ([32] if data == 'ade20k' else [])
    for pipeline in (train.pipeline, test.pipeline):
        reduces, = (step.get('reduce_zero_label', False) for step in pipeline if step.type == 'LoadAnnotations')
        assert reduces == (data != 'pascal_context_60')  # where there is a background, and it counts
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    head = cfg.model.decode_head.channels * (150 - CLASSES[data]) + 150 - CLASSES[data]
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[arch][0] - head


@pytest.mark.parametrize('arch', PARAMETERS)
def test_classifiers(arch):
    for kind, epochs, classes in (('in1k', 300, 1000), ('distill_in1k', 300, 1000), ('distill_in21k', 90, 21841)):
        cfg = load_recipe(FOLDER / f'topformer_{arch}_{kind}.py')
        assert cfg.train_cfg.max_epochs == epochs and cfg.model.head.num_classes == classes
        with torch.device('meta'):
            model = MODELS.build(cfg.model.to_dict() | dict(data_preprocessor=cfg.data_preprocessor))
        head = (classes - 1000) * (cfg.model.head.in_channels + 1)
        assert sum(p.numel() for p in model.parameters()) == PARAMETERS[arch][1] + head


# ---------------------------------------------------------------- in small
@pytest.fixture(scope='module')
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp('world'))


@pytest.mark.parametrize('name', ['topformer_tiny_in1k', 'topformer_small_distill_in1k'])
def test_one_epoch_of_training(name, world, tmp_path, monkeypatch):
    monkeypatch.chdir(world)
    cfg = load_recipe(FOLDER / f'{name}.py')
    store = store_read_by(cfg)
    if store:
        saved = save_store(load_recipe(config_root() / 'teachers/timm_in1k.py'), tmp_path)
        assert saved.num_classes == cfg.model.head.num_classes and saved.topk == 10
        load_recipe(FOLDER / f'{name}.py')
    cfg.model.backbone.arch = SMALL
    cfg.model.neck[1].input_features = cfg.model.head.in_channels = sum(SMALL['channels'])
    cfg.experiment_name = name
    runner = Runner.from_cfg(on_a_few_images(cfg, tmp_path / 'work'))
    runner.train()
    assert runner.iter == 2 and runner.message_hub.get_scalar('train/loss').current() > 0
    if store:
        assert 0 <= runner.message_hub.get_scalar('train/teacher_agreement').current() <= 100
        state = torch.load(tmp_path / 'work/epoch_1.pth', weights_only=False)['state_dict']
        assert all(key.startswith(('backbone.', 'neck.', 'head.')) for key in state)  # a plain classifier's


@pytest.mark.parametrize('name', ['topformer_tiny_160k_ade20k', 'topformer_base_80k_pascal_context_59'])
def test_a_segmenter_starts_from_a_classifier_and_trains(name, tmp_path):
    torch.manual_seed(0)
    start = TopFormer(SMALL, pool_stride=1, inject=False).state_dict()
    torch.save(dict(state_dict={f'backbone.{key}': value for key, value in start.items()}), tmp_path / 'classifier.pth')
    cfg = segmenter(FOLDER / f'{name}.py', write_masks(tmp_path / 'masks'), tmp_path / 'work',
                    checkpoint=tmp_path / 'classifier.pth')
    cfg.model.backbone.arch = SMALL
    cfg.model.decode_head.update(in_channels=[16] * 3, channels=16)
    cfg.experiment_name = name
    init_default_scope('mmseg')
    runner = Runner.from_cfg(cfg)
    runner.model.init_weights()
    state = runner.model.backbone.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in start.items())
    reached = set()
    for key, parameter in runner.model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, key=key: reached.add(key))
    runner.train()
    assert reached == {key for key, _ in runner.model.named_parameters()}
    assert 0 <= runner.message_hub.get_scalar('val/mIoU').current() <= 100
    rate = 3e-4 if 'tiny' in name else 1.2e-4
    initial = {key: group['initial_lr'] for group in runner.optim_wrapper.optimizer.param_groups
               for key, p in runner.model.named_parameters() if any(p is each for each in group['params'])}
    assert all(value == pytest.approx(rate * (10 if key.startswith('decode_head.') else 1))
               for key, value in initial.items())
