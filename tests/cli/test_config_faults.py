"""Everyday mistakes in configs: one sentence that names the setting, and the nearest name where one is alike."""
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from tiny_flow import distilling, labelled_loader

from mmtinyvit.config import READ_NAMES, RUNNER_NAMES, read_config
from mmtinyvit.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def config(tmp_path_factory, photos, saved_store):
    """A training with validation, as a file."""
    folder = tmp_path_factory.mktemp('config')
    cfg = distilling(photos, saved_store, folder / 'work', batch_size=7, epochs=1)
    cfg.merge_from_dict(dict(
        val_dataloader=labelled_loader(photos), val_cfg=dict(), val_evaluator=dict(type='Accuracy')))
    cfg.dump(folder / 'train.py')
    return folder / 'train.py'


@pytest.fixture
def child(config, tmp_path):
    """Writes a config that inherits from it."""
    def write(text: str) -> Path:
        (tmp_path / 'child.py').write_text(f"_base_ = '{config}'\n{text}\n")
        return tmp_path / 'child.py'
    return write


# ---------------------------------------------------------------- options
@pytest.mark.parametrize('option, said', [
    ('custom_hooks.7.topk=5', 'custom_hooks is a list of 2, which has no entry 7: count from 0 to 1.'),
    ('custom_hooks.first.topk=5', 'custom_hooks is a list of 2, which has no entry first: count from 0 to 1.'),
    ('train_cfg.max_epochs.x=5', 'train_cfg.max_epochs is 1, which has nothing named x'),
    ('default_scope=mmpretrian', "default_scope='mmpretrian'"),
    ('model.type=DistilClassifier', "type='DistilClassifier' in model is no model that is known here (did you mean "
                                    'mmtinyvit.DistillClassifier'),
    ('model.backbone.type=mmtinyvit.TinyVit', 'in model.backbone is no model that is known here (did you mean'),
    ('model.backbone.drop_path=0.1', 'mmtinyvit.TinyViT takes no drop_path (did you mean drop_path_rate?): correct '
                                     'model.backbone.'),
    ('train_dataloader.dataset.pipeline.1.transforms.1.type=RandomFlipp',
     'in train_dataloader.dataset.pipeline.1.transforms.1 is no transform that is known here (did you mean RandomFlip'),
    ('custom_hooks.0.num_canary=4', 'SparseLogitDistillHook takes no num_canary (did you mean num_canaries?): correct '
                                    'custom_hooks.0.'),
    ('optim_wrapper.optimizer.lrr=1', 'SGD takes no lrr (did you mean lr?): correct optim_wrapper.optimizer.'),
    ('optim_wrapper.optimizer.type=AdamWW', "type='AdamWW' in optim_wrapper.optimizer is no optimizer that is known "
                                            'here (did you mean AdamW'),
    ('optim_wrapper.optimizer.lr=abc', 'SGD in optim_wrapper.optimizer cannot be built (TypeError in torch, sgd.py: '),
    ('train_dataloader.batchsize=4', 'A loader takes no batchsize (did you mean batch_size?): correct '
                                     'train_dataloader.'),
    ('val_dataloader.batch_size=0', 'val_dataloader cannot be used (ValueError in torch, sampler.py: '),
    ('val_evaluator.type=Acuracy', "type='Acuracy' in val_evaluator is no metric that is known here (did you mean"),
    ('val_evaluator.topk=(1,50)', 'Accuracy cannot tell the top 1, 50 of 12 classes'),
    ('val_evaluator.topk=(0,)', 'Accuracy cannot tell the top 0 of 12 classes'),
    ('train_cfg.max_epochs=1.5', 'train_cfg cannot be used (AssertionError in mmengine, loops.py: '),
    ('train_cfg.val_interval=0', 'train_cfg cannot be used (ZeroDivisionError in mmengine, loops.py: '),
    ('env_cfg.mp_cfg.mp_start_method=forkk', 'env_cfg cannot be used (ValueError in multiprocessing, context.py: '),
    ('optim_wrapper.clip_grad.max_norms=1', 'clip_grad of optim_wrapper cannot be used (TypeError in torch, '),
    ('optim_wrapper.accumulative_counts=0', 'OptimWrapper in optim_wrapper cannot be built (AssertionError in mmeng'),
    ('data_preprocessor.mean=[1,2,3,4]', 'mean or std of data_preprocessor does not fit the channels of the images'),
    ('model.head.in_channels=32', 'The head takes 32 features, and the network before it gives 16: set '
                                  'in_channels=16 in model.head.'),
    ('train_dataloader.batch_size=13', 'BatchNorm cannot be trained with a batch of one image: set batch_size of '
                                       'train_dataloader to 2 or more, or drop_last=True'),
    ('custom_hooks=[EMAHook]', 'custom_hooks cannot be used (TypeError in mmengine, runner.py: hook should be'),
    ('log_level=LOUD', 'log_level cannot be used (KeyError in mmengine, logger.py: LOUD)'),
    ('train_dataloader.drop_last=True train_dataloader.batch_size=99',
     'The 14 samples of ImageFolder are fewer than one batch of 99, and drop_last leaves none'),
    ('param_scheduler=5', 'param_scheduler cannot be used (TypeError in mmengine, runner.py: '),
    ('optim_wrapper=AmpOptimWrapper', 'optim_wrapper cannot be used (TypeError in mmengine, runner.py: '),
    ('randomness.sed=1', 'randomness takes no sed (did you mean seed?): correct randomness.'),
    ('train_cfg.max_epoch=1', 'EpochBasedTrainLoop takes no max_epoch (did you mean max_epochs?): correct train_cfg.'),
    ('train_dataloader.dataset=photos', 'train_dataloader of'),
    ('train_dataloader.sampler=DefaultSampler', "A loader has sampler='DefaultSampler', where a dict belongs: write "
                                                "dict(type='DefaultSampler')."),
    ('model.backbone=TinyViT', "model has 'TinyViT' where a dict belongs: write dict(type='TinyViT', ...)."),
    ('val_evaluator.topk=[]', 'Accuracy cannot tell the top none of 12 classes'),
    ('default_hooks.checkpoint=5', 'default_hooks cannot be used (TypeError in mmengine, runner.py: hook should be'),
    ('default_hooks.checkpoint.type=CheckpointHook default_hooks.checkpoint.save_best=nonsense',
     'CheckpointHook in default_hooks cannot be built (ValueError in mmengine, checkpoint_hook.py: '),
    ('default_hooks.checkpoint.type=CheckpointHook default_hooks.checkpoint.save_best=accuracy/top9',
     'CheckpointHook in default_hooks or custom_hooks cannot be used (KeyError in mmengine, checkpoint_hook.py: acc'),
    ('model.type=ImageClassifier model.head.num_classes=2 val_evaluator.topk=1',
     'The images are of 3 classes, and the model has 2 outputs: set num_classes of its head to 3'),
])
def test_options(run_tool, config, option, said):
    assert said in run_tool('train', config, '--cfg-options', *option.split()).sentence


def test_options_that_set(config):
    cfg = read_config(config, {'custom_hooks.0.topk': 5, 'custom_hooks.1': dict(type='EMAHook'), 'env_cfg.new.x': 1,
                               'train_dataloader.batch_size': 3})
    assert (cfg.custom_hooks[0].topk, cfg.custom_hooks[1]['type'], cfg.env_cfg.new.x) == (5, 'EMAHook', 1)
    assert cfg.train_dataloader.batch_size == 3


# ---------------------------------------------------------------- names that nothing reads
@pytest.mark.parametrize('options, said', [
    ({'train_dataloder.batch_size': 4}, '--cfg-options train_dataloder.batch_size changes nothing: train_dataloder is '
                                        'a name that neither the config nor MMEngine has (did you mean train_datal'),
    ({'own_epochs': 4}, 'changes nothing: own_epochs is used only while the file is read'),
    ({'model.backbone.archh': '5m'}, 'model.backbone has no archh yet (did you mean arch?)'),
])
def test_an_option_that_changes_nothing_is_warned_about(child, options, said, capsys):
    read_config(child('own_epochs = 3\ntrain_cfg = dict(max_epochs=own_epochs)'), options)
    assert said in ' '.join(capsys.readouterr().err.split())


def test_a_name_in_a_config_that_nothing_reads_is_warned_about(child, capsys):
    read_config(child('train_dataloder = dict(batch_size=4)\nval_interval = 3\nview_transforms = []'))
    said = capsys.readouterr().err
    assert said.count('Warning: ') == 1 and 'train_dataloder' in said and 'did you mean train_dataloader?' in said


def test_options_that_do_something_are_not_warned_about(config, capsys):
    read_config(config, {'store': 'a', 'load_from': 'b', 'mode': 'online', 'train_dataloader.dataset.data_root': 'c',
                         'store_topk': 5, 'store_weights': [1.], 'random_teacher': True,
                         'model.backbone.drop_path_rate': .1, 'find_unused_parameters': True})
    assert capsys.readouterr().err == ''


def test_runners_read_these_names(tmp_path):
    class Cfg(dict):
        def get(self, name, default=None):
            asked.add(name)
            return super().get(name, default)
        __deepcopy__ = lambda self, memo: self  # noqa: E731

    asked = {'model', 'work_dir'}
    with pytest.raises(Exception):  # noqa: B017  nothing can be built of it
        Runner.from_cfg(Cfg(model={}, work_dir=str(tmp_path)))
    assert asked - {'_scope_'} <= RUNNER_NAMES <= READ_NAMES


def test_names_for_the_optimiser_that_nothing_reads_are_warned_about(config, capsys):
    read_config(config, {'optim_wrapper.paramwise_cfg.bias_decay_mul': 0, 'optim_wrapper.paramwise_cfg.custom_keys': 1})
    assert capsys.readouterr().err == ('Warning: bias_decay_mul of optim_wrapper.paramwise_cfg is a name that nothing '
                                       'reads (did you mean bias_decay_mult?).\n')


@pytest.mark.parametrize('config', sorted((ROOT / 'configs').rglob('*.py'))[::7], ids=lambda path: path.stem)
def test_recipes_are_not_warned_about(config, capsys):
    read_config(config)
    assert capsys.readouterr().err == ''


# ---------------------------------------------------------------- config files
@pytest.mark.parametrize('text, said', [
    ('val_cfg = None', 'has no val_cfg, but val_dataloader, val_evaluator: add it, or leave all of them out.'),
    ('model = None', 'has no model: add it.'),
    ('train_dataloader = None', 'has no train_dataloader: name a config that has one'),
    ('train_dataloader = dict(dataset=None)', 'has no dataset: add it.'),
    ("model = dict(backbone=dict(type='mmpretrain.ResNet', depth=18))",
     'mmpretrain.ResNet takes no arch: correct model.backbone; if a config changes the type that it inherits'),
    ("model = dict(head=dict(_delete_=True, type='LinearClsHead', num_classes=12))",
     "LinearClsHead needs 'in_channels', which model.head does not have: add it."),
    ("model = dict(head=dict(_delete_=True, num_classes=12))", 'model.head has no type'),
    ("model = dict(_delete_=True, type='TimmClassifier', model_name='resnett18')",
     'timm has no model resnett18 (did you mean resnet18 or resnet18d?): correct model.'),
    ("visualizer = dict(type='Visualizer', vis_backends=[dict(type='WandbVisBackend')])",
     'visualizer cannot be used (ImportError in mmengine, vis_backend.py: Please run "pip install wandb"'),
])
def test_config_files(run_tool, child, text, said):
    assert said in run_tool('train', child(text)).sentence


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('case', ['sizes', 'no image'])
def test_pipelines(run_tool, config, tmp_path, case, workers):
    """Also where the fault comes to light in a worker of the loader."""
    cfg = Config.fromfile(config)
    load, _, label, pack = cfg.val_dataloader.dataset.pipeline
    crop = dict(type='mmtinyvit.RandomResizedCrop', scale=32)
    cfg.val_dataloader.dataset.pipeline = [load, label, pack] if case == 'sizes' else [crop, load, label, pack]
    cfg.val_dataloader.num_workers = workers
    cfg.dump(tmp_path / 'changed.py')
    said = run_tool('train', tmp_path / 'changed.py').sentence
    if case == 'sizes':
        assert said.startswith('The images of a batch have different sizes: let the pipeline of val_dataloader bring')
    else:
        assert "in the pipeline of val_dataloader needs 'img', which nothing before it gives" in said


def test_a_label_that_the_model_does_not_have(run_tool, config, photos, tmp_path):
    (tmp_path / 'list.txt').write_text('class_0/photo_000.png 0\nclass_0/photo_003.png 77\n')
    dataset = dict(type='mmtinyvit.ImageFolder', data_prefix=str(photos), ann_file=str(tmp_path / 'list.txt'))
    cfg = Config.fromfile(config)
    cfg.train_dataloader.dataset = dataset | dict(pipeline=labelled_loader(photos)['dataset']['pipeline'][:2] + [
        dict(type='PackInputs')])
    cfg.merge_from_dict({'model.type': 'ImageClassifier', 'custom_hooks': []})
    cfg.dump(tmp_path / 'changed.py')
    assert run_tool('train', tmp_path / 'changed.py').sentence.startswith(
        'An image of train_dataloader has the label 77, which is none of the classes of the model')


def test_a_pipeline_that_packs_nothing(run_tool, config, tmp_path):
    cfg = Config.fromfile(config)
    cfg.train_dataloader.dataset.pipeline.pop()
    cfg.dump(tmp_path / 'changed.py')
    assert 'have no inputs: end its pipeline with PackInputs' in run_tool('train', tmp_path / 'changed.py').sentence


def test_a_config_that_is_almost_there(config):
    for name, meant in (('configs/demo/distil.py', 'demo/distill.py'), ('distill_in21k.py', 'tinyvit/distill_in21k.py'),
                        (config.with_name('trains.py'), str(config)), (config.with_suffix(''), str(config))):
        with pytest.raises(UserError, match=rf'There is no config {name} .did you mean .*{meant}'):
            read_config(name)


def test_a_base_by_the_name_of_this_library(tmp_path):
    (tmp_path / 'child.py').write_text("_base_ = 'mmtinyvit::demo/distill.py'\n")
    with pytest.raises(UserError, match=r'write the path, such as _base_ = .*configs/demo/distill\.py'):
        read_config(tmp_path / 'child.py')


@HOOKS.register_module(force=True)
class BrokenHook:
    """A project's part with a bug."""

    def __init__(self) -> None:
        int('x')


def test_a_bug_of_somebody_elses_part_keeps_its_traceback(run_tool, child):
    with pytest.raises(ValueError, match='invalid literal'):
        run_tool('train', child("custom_hooks = [dict(type='BrokenHook')]"))


def test_persistent_workers_without_workers(run_tool, config):
    ended = run_tool('train', config, '--cfg-options', 'train_dataloader.persistent_workers=True',
                     'val_dataloader.prefetch_factor=2')
    assert ended.status == 0, ended.err
    assert 'persistent_workers mean nothing' in ended.out + ended.err


def test_weights_that_cannot_be_fetched(run_tool, child, monkeypatch, tmp_path):
    """Nothing is tried again and again where there is no network."""
    def no_network(host, *args):
        asked.append(host)
        raise socket.gaierror(-2, 'Name or service not known')

    asked = []
    monkeypatch.setattr('mmtinyvit.cli.runner.getproxies', dict)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', False)
    monkeypatch.setattr(socket, 'getaddrinfo', no_network)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    config = child("model = dict(_delete_=True, type='TimmClassifier', model_name='resnet18', pretrained=True)")
    assert run_tool('train', config).sentence.startswith('TimmClassifier in model wants weights from the Hugging Face '
                                                         'Hub, which cannot be reached')
    assert asked == ['huggingface.co']  # once
    name = "model = dict(_delete_=True, type='TimmClassifier', model_name='hf_hub:timm/resnet18')"  # its architecture
    assert 'which cannot be reached' in run_tool('train', child(name)).sentence
    assert asked == ['huggingface.co'] * 2


# ---------------------------------------------------------------- pure Python
def test_types_as_classes_are_names(tmp_path, config):
    (tmp_path / 'base.py').write_text(config.read_text())
    (tmp_path / 'child.py').write_text('''from mmengine.config import read_base
with read_base():
    from .base import *
from mmpretrain.models import LinearClsHead
from torch.optim import SGD
from mmtinyvit.engine.loops import SaveLogitsLoop
from mmtinyvit.models.backbones import TinyViT
model.head.update(type=LinearClsHead)
model.backbone.update(type=TinyViT)
optim_wrapper.optimizer.update(type=SGD)
test_cfg = dict(type=SaveLogitsLoop)
''')
    cfg = read_config(tmp_path / 'child.py')
    assert (cfg.model.head.type, cfg.model.backbone.type) == ('mmpretrain.LinearClsHead', 'mmtinyvit.TinyViT')
    assert (cfg.optim_wrapper.optimizer.type, cfg.test_cfg.type) == ('mmengine.SGD', 'mmtinyvit.SaveLogitsLoop')
    plain = Config.fromfile(config)
    assert cfg.model.backbone.arch == plain.model.backbone.arch


# ---------------------------------------------------------------- launchers
@pytest.mark.parametrize('launcher, starter', [('pytorch', 'torchrun'), ('slurm', 'srun'), ('mpi', 'mpirun')])
def test_a_launcher_that_was_not_started(run_tool, config, launcher, starter, monkeypatch):
    for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(name, raising=False)
    said = run_tool('train', config, '--launcher', launcher).sentence
    assert said.startswith(f'--launcher {launcher} is for processes that {starter} starts')


@pytest.mark.parametrize('wrapper', ['dist_train', 'dist_test', 'dist_save_logits', 'slurm_train'])
def test_shell_wrappers_without_arguments_say_how_they_are_used(wrapper):
    for args in ([], ['configs/demo/distill.py']):
        ended = subprocess.run([ROOT / 'tools' / f'{wrapper}.sh', *args], capture_output=True, text=True)
        assert (ended.returncode, ended.stdout) == (2, '')
        assert ended.stderr.startswith('Usage: ') and f'{wrapper}.sh' in ended.stderr and 'unbound' not in ended.stderr


def test_gpus_of_a_wrapper_are_a_number():
    ended = subprocess.run([ROOT / 'tools/dist_train.sh', 'configs/demo/distill.py', '--amp'], capture_output=True,
                           text=True, env={'PATH': f'{Path(sys.executable).parent}:/usr/bin:/bin'})
    assert ended.returncode == 2 and ended.stderr.startswith('Usage: ')


def test_names_that_are_set_too_late(child, tmp_path, capsys):
    """What inherits from a config cannot change a name that the config has used."""
    (tmp_path / 'base.py').write_text(
        "epochs = 20\nfolder = 'data'\ntrain_cfg = dict(by_epoch=True, max_epochs=epochs)\nvis = dict(place=folder)\n")
    (tmp_path / 'late.py').write_text(
        "_base_ = 'base.py'\nepochs = 2\nfolder = 'mine'\nown = 3\nwork_dir = f'{folder}/{own}'\n")
    cfg = read_config(tmp_path / 'late.py')
    assert cfg.train_cfg.max_epochs == 20
    said = capsys.readouterr().err
    assert said == (f'Warning: epochs of {tmp_path}/late.py changes nothing: its _base_ has used it already, so set '
                    'what is made of it.\n')


def test_a_base_that_is_not_there(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = 'imagenette/data.py'\n")
    with pytest.raises(UserError, match="relative to its file; the library's are in .*configs"):
        read_config(path)
