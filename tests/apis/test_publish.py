"""A student that was trained in a real Runner, published: nobody needs anything else to use it."""
import hashlib
import json
import os
import stat
import subprocess

import mmpretrain
import numpy as np
import pytest
import torch
from file_server import file_server
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_flow import distilling

import mmtinyvit
from mmtinyvit.apis.publish import publish, write_file
from mmtinyvit.config import read_config
from mmtinyvit.models.checkpoints import read_checkpoint
from mmtinyvit.store import LogitStore

TEST = [dict(type='mmtinyvit.LoadImage'), dict(type='Resize', scale=(32, 32)), dict(type='PackInputs')]
DEIT = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
PHOTO = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, photos, saved_store):
    """The config, as a file, and the checkpoint of one epoch."""
    work = tmp_path_factory.mktemp('trained')
    cfg = distilling(photos, saved_store, work, epochs=1)
    cfg.experiment_name = 'published'
    cfg.test_dataloader = dict(dataset=dict(type='CustomDataset', data_prefix=str(photos), pipeline=TEST))
    cfg.dump(work / 'student.py')
    training = cfg.copy()
    training.test_dataloader = None
    Runner.from_cfg(training).train()
    return work / 'student.py', work / 'epoch_1.pth'


def expected(config, checkpoint) -> torch.nn.Module:
    """The student as mmpretrain builds and loads it."""
    init_default_scope('mmpretrain')
    model = MODELS.build(Config.fromfile(config).model)
    load_checkpoint(model, str(checkpoint), strict=True)
    return model.eval()


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_student_goes_out_and_comes_back(run_tool, trained, tmp_path, suffix, monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')
    config, checkpoint = trained
    ended = run_tool('publish_model', config, checkpoint, tmp_path / 'out' / f'student{suffix}')
    assert ended.status == 0, ended.err
    path, = (tmp_path / 'out').iterdir()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'student-{digest[:8]}{suffix}'
    assert path.name in ended.out and 'ResNet_CIFAR' in ended.out

    student, images = expected(config, checkpoint), torch.randn(2, 3, 32, 32)
    ours = mmtinyvit.get_model(path)
    assert type(ours) is mmpretrain.models.ImageClassifier
    with torch.no_grad():
        assert torch.equal(ours(images, mode='tensor'), student(images, mode='tensor'))
    assert len(mmpretrain.inference_model(ours, PHOTO)['pred_scores']) == 12

    monkeypatch.setenv('MMTINYVIT_CACHE', str(tmp_path / 'cache'))
    with file_server() as server:
        server.files[f'/{path.name}'] = path.read_bytes()
        remote = mmtinyvit.get_model(f'{server.url}/{path.name}')
    assert all(torch.equal(one, other) for one, other in zip(remote.parameters(), ours.parameters(), strict=True))

    plain = MODELS.build(dict(student_config(config), type='mmpretrain.ImageClassifier'))
    plain.load_state_dict(load_file(path) if suffix == '.safetensors' else
                          torch.load(path, weights_only=True)['state_dict'], strict=True)
    with torch.no_grad():
        assert torch.equal(plain.eval()(images, mode='tensor'), student(images, mode='tensor'))


def student_config(config) -> dict:
    return Config.fromfile(config).model.to_dict()


def test_provenance(trained, saved_store, tmp_path):
    config, checkpoint = trained
    written = publish(Config.fromfile(config), str(checkpoint), tmp_path / 'student.safetensors')
    with safe_open(written.path, 'pt') as file:
        said = json.loads(file.metadata()['mmtinyvit'])
    assert said == written.meta == read_checkpoint(written.path)[1]
    origin, store = said['provenance'], LogitStore(saved_store)
    assert origin['recipe'] == 'student.py' and origin['checkpoint'] == 'epoch_1.pth' and origin['epochs'] == 1
    assert origin['store']['store_id'] == store.manifest.store_id.hex()
    assert origin['store']['teacher'] == store.manifest.fingerprints['teacher']
    assert (origin['store']['samples'], origin['store']['views'], origin['store']['topk']) == (14, 2, 5)
    assert origin['versions']['mmtinyvit'] == mmtinyvit.__version__ and len(origin['versions']) == 6
    assert str(tmp_path.parent) not in json.dumps(said) and str(saved_store) not in json.dumps(said)
    assert not {'teacher', 'distill', 'init_cfg'} & said['config']['model'].keys()
    again = publish(Config.fromfile(config), str(checkpoint), tmp_path / 'student.safetensors')
    assert again.path == written.path  # the same bytes, so the same name


def test_a_store_that_has_moved(run_tool, trained, saved_store, own_copy, tmp_path):
    config, checkpoint = trained
    saved = torch.load(checkpoint, weights_only=False)
    saved['teacher_store']['path'] = str(tmp_path / 'gone')
    torch.save(saved, tmp_path / 'moved.pth')
    ended = run_tool('publish_model', config, tmp_path / 'moved.pth', tmp_path / 'student.pth')
    assert ended.status == 0 and 'unknown: the store is not here (--store)' in ended.out
    ended = run_tool('publish_model', config, tmp_path / 'moved.pth', tmp_path / 'student.pth', '--store', own_copy)
    assert 'ResNet_CIFAR' in ended.out
    saved['teacher_store']['store_id'] = '0' * 32
    torch.save(saved, tmp_path / 'other.pth')
    sentence = run_tool('publish_model', config, tmp_path / 'other.pth', tmp_path / 'other.pth', '--store',
                        own_copy).sentence
    assert sentence.startswith('The student was distilled from the store 000000000000, and ')
    del saved['teacher_store']
    torch.save(saved, tmp_path / 'labels.pth')
    ended = run_tool('publish_model', config, tmp_path / 'labels.pth', tmp_path / 'student.pth')
    assert 'none: trained with labels' in ended.out


@pytest.fixture
def own_copy(saved_store, tmp_path):
    subprocess.run(['cp', '-r', saved_store, tmp_path / 'copy'], check=True)
    return tmp_path / 'copy'


@pytest.mark.parametrize('model', [
    dict(type='mmtinyvit.DistillTimmClassifier', model_name='test_resnet', num_classes=12, pretrained=False),
    dict(type='mmtinyvit.DeiTDistillClassifier', teacher=dict(model=dict(type='TimmClassifier')), alpha=0.3,
         backbone=dict(type='mmtinyvit.DistilledDeiT', img_size=32, arch=DEIT),
         head=dict(type='mmtinyvit.DeiTDistillHead', num_classes=12, in_channels=24))], ids=['timm', 'DeiT'])
def test_other_students(model, trained, tmp_path):
    """A timm student, and one of two heads whose teacher stood beside it."""
    cfg = Config.fromfile(trained[0])
    cfg.model = model
    init_default_scope('mmpretrain')
    student = MODELS.build(dict(model, **{'teacher': None} if 'teacher' in model else {})).eval()
    torch.save(dict(state_dict=student.state_dict(), meta=dict(dataset_meta=dict(classes=list('abcdefghijkl')))),
               tmp_path / 'student.pth')
    ours = mmtinyvit.get_model(publish(cfg, str(tmp_path / 'student.pth'), tmp_path / 'out.safetensors').path)
    assert type(ours).__name__ in ('TimmClassifier', 'ImageClassifier')
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours(images, mode='tensor'), student(images, mode='tensor'))
    assert mmpretrain.inference_model(ours, PHOTO)['pred_class'] in set('abcdefghijkl')


def test_a_student_of_a_project(tmp_path):
    """Its config imports it; whoever takes the published file has imported it, too."""
    cfg = read_config('projects/mobile_former/configs/mobile_former_26m_in1k.py')
    init_default_scope('mmpretrain')
    student = MODELS.build(cfg.model).eval()
    torch.save(student.state_dict(), tmp_path / 'student.pth')
    ours = mmtinyvit.get_model(publish(cfg, str(tmp_path / 'student.pth'), tmp_path / 'out.pth').path)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(image, mode='tensor'), student(image, mode='tensor'))


def test_faults(run_tool, trained, tmp_path):
    config, checkpoint = trained
    out = tmp_path / 'out'
    sentence = run_tool('publish_model', config, checkpoint, out / 'net.zip').sentence
    assert 'must end with .pth or .safetensors' in sentence
    weights = torch.load(checkpoint, weights_only=False)
    del weights['state_dict']['head.fc.bias']
    torch.save(weights, tmp_path / 'half.pth')
    sentence = run_tool('publish_model', config, tmp_path / 'half.pth', out / 'net.pth').sentence
    assert 'does not fill ImageClassifier' in sentence and '1 are missing (head.fc.bias)' in sentence
    option = ('--cfg-options', 'model.type=mmdet.MaskRCNN')
    assert 'is no classifier of this kind' in run_tool('publish_model', config, checkpoint, out / 'net.pth',
                                                       *option).sentence
    assert not out.exists()
    with pytest.raises(mmtinyvit.errors.UserError, match='brings its own weights: leave out pretrained'):
        mmtinyvit.get_model(publish(Config.fromfile(config), str(checkpoint), out / 'net.pth').path, pretrained=True)
    torch.save(dict(state_dict=weights['state_dict']), tmp_path / 'bare.pth')
    with pytest.raises(mmtinyvit.errors.UserError, match='does not say which model it is for'):
        mmtinyvit.get_model(tmp_path / 'bare.pth')


@pytest.mark.parametrize(('part', 'name'), [
    (('backbone', ), 'os.system'), (('head', 'loss'), 'mmengine.dump'), (('backbone', ), 'AutoModelForCausalLM'),
    (('backbone', 'norm_cfg'), 'pathlib.Path.touch'), (('pipeline', ), 'builtins.exec')])
def test_a_model_that_would_run_code_is_not_built(trained, tmp_path, part, name):
    """MMEngine would import and call whatever a type names."""
    config, checkpoint = trained
    saved = torch.load(publish(Config.fromfile(config), str(checkpoint), tmp_path / 'net.pth').path, weights_only=True)
    where = saved['meta']['config']['model']
    if part == ('pipeline', ):
        saved['meta']['config']['test_dataloader']['dataset']['pipeline'][1]['type'] = name
    else:
        for step in part:
            where = where.setdefault(step, {})
        where.clear()
        where.update(type=name, command=f'touch {tmp_path}/executed')
    torch.save(saved, tmp_path / 'bad.pth')
    with pytest.raises(mmtinyvit.errors.UserError, match=f'has a part of type {name}, which is no class of mmpretrain'):
        mmtinyvit.get_model(tmp_path / 'bad.pth')
    assert not (tmp_path / 'executed').exists()


# ---------------------------------------------------------------- where it is written
def test_a_link_stays_one(tmp_path):
    (tmp_path / 'target').write_text('old')
    (tmp_path / 'link').symlink_to('target')
    write_file(tmp_path / 'link', b'new')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'target').read_bytes() == b'new'


def test_a_named_pipe_stays_one(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    reader = subprocess.Popen(['cat', tmp_path / 'pipe'], stdout=subprocess.PIPE)
    write_file(tmp_path / 'pipe', b'said')
    assert reader.communicate()[0] == b'said' and stat.S_ISFIFO((tmp_path / 'pipe').stat().st_mode)
