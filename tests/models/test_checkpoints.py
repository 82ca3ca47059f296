"""Checkpoint files: no code is run from them, whoever reads; what MMEngine writes is read; wrappers are taken off."""
import copy
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from file_server import file_server
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule, ExponentialMovingAverage
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.runner.checkpoint import load_checkpoint as mmengine_load
from torch import Tensor, nn

from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import checkpoint_classes
from mmtinyvit.models.checkpoint_keys import unwrap_checkpoint
from mmtinyvit.models.checkpoints import fetch_weights, load_checkpoint, read_checkpoint, read_state_dict
from mmtinyvit.models.weights import fill_module, fill_part

WEIGHTS = dict(weight=torch.ones(2, 3), bias=torch.zeros(2))


class Malicious:
    def __reduce__(self):
        return os.mkdir, ('executed', )


class Attribute:
    """An attribute of a class, by the ``getattr`` that MMEngine's curves need."""

    def __init__(self, *args):
        self.args = args

    def __reduce__(self):
        return getattr, self.args


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MMTINYVIT_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))


# ---------------------------------------------------------------- code
@pytest.mark.parametrize('extra', [
    dict(meta=Malicious()), dict(optimizer=[Malicious()]), dict(message_hub=dict(runtime_info=Malicious()))])
def test_no_reader_runs_code(extra, monkeypatch):
    """The library's own, MMEngine's with and without a prefix, from a file, a URL or a name of torchvision's."""
    torch.save(dict(state_dict=WEIGHTS, **extra), 'weights.pth')
    says = r'weights.pth is no checkpoint of tensors and plain values: it holds \w+.mkdir, .* may run code'
    with file_server() as server:
        server.files['/weights.pth'] = Path('weights.pth').read_bytes()
        url = f'{server.url}/weights.pth'
        monkeypatch.setattr('mmengine.runner.checkpoint.get_torchvision_models', lambda: dict(net=url))
        for source in ('weights.pth', url, 'torchvision://net'):
            for settings in (dict(), dict(prefix='net.')):
                part = BaseModule(dict(type='Pretrained', checkpoint=source, **settings))
                with pytest.raises(UserError, match=says):
                    part.init_weights()
            for read in (read_state_dict, read_checkpoint, lambda source: mmengine_load(nn.Linear(3, 2), source)):
                with pytest.raises(UserError, match=says):
                    read(source)
    assert not Path('executed').exists()


@pytest.mark.parametrize('owner, name', [
    (HistoryBuffer, '__init__'), (HistoryBuffer, 'register_statistics'), (dict, 'mean'), (np.ndarray, 'tofile')])
def test_getattr_reaches_nothing_but_a_curves_statistics(owner, name):
    torch.save(dict(state_dict=WEIGHTS, meta=Attribute(owner, name)), 'weights.pth')
    with pytest.raises(UserError, match='weights.pth is no checkpoint of tensors'):
        read_checkpoint('weights.pth')


def test_a_type_that_the_user_trusts():
    torch.save(dict(state_dict=WEIGHTS, meta=dict(path=Path('here'))), 'weights.pth')
    with pytest.raises(UserError, match=r'pathlib.\w*Path, .* torch.serialization.add_safe_globals'):
        load_checkpoint('weights.pth')
    with torch.serialization.safe_globals([type(Path())]):
        assert load_checkpoint('weights.pth')['meta'] == dict(path=Path('here'))


def test_what_mmengine_writes_is_read():
    curve = HistoryBuffer([1., 3.], [1, 1])
    written = dict(
        meta=dict(epoch=1, dataset_meta=ConfigDict(classes=('a', 'b'), more=ConfigDict(n=1))),
        message_hub=dict(log_scalars=dict(loss=curve), runtime_info=dict(
            best=np.float64(3.5), single=np.float32(1), flag=np.bool_(True), palette=np.arange(6, dtype=np.uint8),
            names=np.array(['a', 'bc']), state=np.random.get_state())),
        optimizer=torch.optim.AdamW([nn.Parameter(torch.ones(1))]).state_dict())
    torch.save(dict(state_dict=WEIGHTS, **written), 'epoch_1.pth')
    found = load_checkpoint('epoch_1.pth')
    assert found['message_hub']['log_scalars']['loss'].statistics('mean') == 2
    assert found['meta'] == written['meta'] and type(found['meta']['dataset_meta']) is dict
    info = found['message_hub']['runtime_info']
    assert info['best'] == 3.5 and info['single'].dtype == np.float32 and info['flag']
    assert info['palette'].tolist() == list(range(6)) and info['names'].tolist() == ['a', 'bc']
    np.random.set_state(info['state'])


@pytest.mark.parametrize('name', ['MT19937', 'PCG64', 'PCG64DXSM', 'Philox', 'SFC64'])
def test_generators_go_on_where_they_were(name):
    generator = np.random.Generator(getattr(np.random, name)(3))
    torch.save(dict(state_dict=WEIGHTS, generator=generator, old=np.random.RandomState(4)), 'epoch_1.pth')
    found = load_checkpoint('epoch_1.pth')
    assert found['generator'].random(3).tolist() == generator.random(3).tolist()
    assert found['old'].rand() == np.random.RandomState(4).rand()


def test_files_of_the_older_numpy():
    """NumPy 1 called its core ``numpy.core``, as the published checkpoints of mmpretrain do."""
    torch.save(dict(state_dict=WEIGHTS, meta=dict(best=np.float64(2), a=np.arange(2))), 'new.pth',
               _use_new_zipfile_serialization=False)
    content = Path('new.pth').read_bytes().replace(b'numpy._core', b'numpy.core')
    assert b'numpy.core.multiarray' in content
    Path('old.pth').write_bytes(content)
    meta = load_checkpoint('old.pth')['meta']
    assert meta['best'] == 2 and meta['a'].tolist() == [0, 1]


# ---------------------------------------------------------------- files
READERS = pytest.mark.parametrize('read', [load_checkpoint, lambda source: CheckpointLoader.load_checkpoint(source)],
                                  ids=['ours', 'MMEngine'])


@READERS
def test_files_that_cannot_be_read(read):
    torch.save(WEIGHTS, 'whole.pth')
    Path('torn.pth').write_bytes(Path('whole.pth').read_bytes()[:-100])
    Path('empty.pth').touch()
    Path('folder.pth').mkdir()
    with pytest.raises(UserError, match=r'torn.pth is no checkpoint .* damaged \(.+\): get it again'):
        read('torn.pth')
    with pytest.raises(UserError, match=r'empty.pth is no checkpoint .* \(it is empty\): get it again'):
        read('empty.pth')
    with pytest.raises(UserError, match='folder.pth is no checkpoint'):
        read('folder.pth')
    with pytest.raises(UserError, match='There is no checkpoint nothing.pth: check the path'):
        read('nothing.pth')
    with pytest.raises(UserError, match='MMEngine knows no checkpoint torchvision://resnet51'):
        read('torchvision://resnet51')


@READERS
@pytest.mark.parametrize('make, says', [
    (Tensor.to_sparse, 'is sparse, .* to_dense'), (Tensor.to_sparse_csr, 'is sparse, .* to_dense'),
    (lambda value: torch.quantize_per_tensor(value, .1, 0, torch.qint8), 'is quantised, .* dequantize'),
    (lambda value: value.to('meta'), 'is on the meta device, without values'),
    (lambda value: torch.nested.nested_tensor([value, value[:1]]), 'is nested'),
    (lambda value: torch.nested.nested_tensor([value, value[:1]], layout=torch.jagged), 'is nested')])
def test_tensors_that_no_network_here_takes(read, make, says):
    torch.save(dict(state_dict=WEIGHTS | dict(odd=make(torch.ones(2, 2)))), 'odd.pth')
    with pytest.raises(UserError, match=f'The tensor odd of odd.pth {says}'):
        read('odd.pth')


def test_names_of_mmengines_hubs(monkeypatch):
    known = 'mmengine.runner.checkpoint.get_'
    with file_server() as server:
        for name, content in dict(bare=WEIGHTS, model=dict(model=WEIGHTS),
                                  backbone={f'backbone.{key}': value for key, value in WEIGHTS.items()}).items():
            torch.save(content, f'{name}.pth')
            server.files[f'/{name}.pth'] = Path(f'{name}.pth').read_bytes()
        monkeypatch.setattr(f'{known}torchvision_models', lambda: dict(net=f'{server.url}/bare.pth'))
        monkeypatch.setattr(f'{known}external_models', lambda: {'a/net': f'{server.url}/model.pth'})
        monkeypatch.setattr(f'{known}mmcls_models', lambda: dict(net=f'{server.url}/backbone.pth'))
        for source in ('torchvision://net', 'open-mmlab://a/net', 'mmcls://net'):
            part = BaseModule(dict(type='Pretrained', checkpoint=source))
            part.weight, part.bias = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.ones(2))
            part.init_weights()
            assert (part.weight == 1).all() and (part.bias == 0).all(), source


def test_what_torch_has_downloaded_is_not_downloaded_again():
    with file_server() as server:
        server.files['/net.pth'] = b'never asked for'
        Path('hub/checkpoints').mkdir(parents=True)
        torch.save(WEIGHTS, 'hub/checkpoints/net.pth')
        assert CheckpointLoader.load_checkpoint(f'{server.url}/net.pth').keys() == WEIGHTS.keys()
        shutil.rmtree('hub')
        with pytest.raises(UserError, match='net.pth is no checkpoint'):
            fetch_weights(f'{server.url}/net.pth')


# ---------------------------------------------------------------- wrappers
class Net(nn.Module):
    """A network of two parts, with a wrapper's name inside where wanted."""

    def __init__(self, inside: str = 'layers') -> None:
        super().__init__()
        self.backbone, self.head = nn.Module(), nn.Linear(2, 3)
        self.backbone.add_module(inside, nn.Linear(2, 2))


WRAPPERS = {
    'parallel': lambda name: f'module.{name}',
    'compiled': lambda name: f'_orig_mod.{name}',
    'compiled and parallel': lambda name: f'module._orig_mod.{name}',
    'parallel and compiled': lambda name: f'_orig_mod.module.{name}',
    'a compiled part': lambda name: name.replace('backbone.', 'backbone._orig_mod.'),
    'a parallel part': lambda name: name.replace('backbone.', 'backbone.module.'),
    'Lightning': lambda name: f'model.{name}',
    'twice': lambda name: f'module.model.model.{name}',
    'a student': lambda name: f'student.{name}',
    'all': lambda name: f'module.student._orig_mod.model.{name}',
}


@pytest.mark.parametrize('rename', WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize('entry', [(), ('state_dict', ), ('model', 'state_dict'), ('model_ema', ), ('student', )],
                         ids=lambda entry: '.'.join(entry) or 'bare')
def test_wrappers_are_taken_off(rename, entry):
    source, net = Net(), Net()
    content = {rename(name): value for name, value in source.state_dict().items()}
    for name in reversed(entry):
        content = {name: content, 'epoch': 3}
    torch.save(content, 'weights.pth')
    assert fill_module(net, read_checkpoint('weights.pth')[0], 'weights.pth') == 4
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in net.state_dict().items())
    assert read_state_dict('weights.pth').keys() == source.state_dict().keys()
    backbone = Net().backbone
    assert fill_part(backbone, 'weights.pth', 'backbone.') == fill_part(backbone, 'weights.pth') == 2


@pytest.mark.parametrize('inside', ['module', 'model', 'student'])
def test_names_of_the_network_itself_are_no_wrappers(inside):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module(inside, Net(inside))

    source, net = Outer(), Outer()
    fill_module(net, source.state_dict(), 'here')
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in net.state_dict().items())


def test_averaged_models_of_torch_and_mmengine():
    source = Net()
    for averaged in (ExponentialMovingAverage(source), torch.optim.swa_utils.AveragedModel(source)):
        assert fill_module(Net(), averaged.state_dict(), 'here') == 4


def test_a_student_beside_its_teacher():
    source, teacher = Net(), nn.Linear(7, 7)
    state = {f'student.{name}': value for name, value in source.state_dict().items()}
    state |= {f'teacher.{name}': value for name, value in teacher.state_dict().items()}
    assert unwrap_checkpoint(state).keys() == source.state_dict().keys()


@pytest.mark.parametrize('entries, taken', [
    (('state_dict', 'state_dict_ema'), 'state_dict_ema'), (('model_ema', 'model'), 'model')])
def test_of_two_copies_the_one_taken_is_said(entries, taken, monkeypatch):
    lines = []
    monkeypatch.setattr('mmtinyvit.models.checkpoint_keys.print_log', lambda line, **_: lines.append(line))
    torch.save({name: dict(weight=torch.full((1, ), float(name == taken))) for name in entries}, 'weights.pth')
    assert read_state_dict('weights.pth')['weight'] == 1
    assert len(lines) == 1 and lines[0].endswith(f': {taken} is taken') and all(name in lines[0] for name in entries)


def test_the_same_tensor_twice():
    state = {'model.weight': torch.ones(1), 'weight': torch.zeros(1)}
    with pytest.raises(UserError, match='has weight twice'):
        fill_module(nn.Linear(1, 1, bias=False), state, 'here')


# ---------------------------------------------------------------- parts
def test_a_part_is_filled_whole_and_leaves_what_it_has_not():
    source = Net()
    torch.save(source.state_dict(), 'weights.pth')
    other = Net().backbone
    other.layers = nn.Linear(2, 3)
    with pytest.raises(UserError, match=r'layers.weight is \[2, 2\] instead of \[3, 2\]'):
        fill_part(other, 'weights.pth', 'backbone')
    deeper = copy.deepcopy(Net().backbone)
    deeper.more = nn.Linear(1, 1)
    with pytest.raises(UserError, match='2 are missing .more.weight, more.bias.'):
        fill_part(deeper, 'weights.pth', 'backbone')
    sequence = nn.Module()
    sequence.layers = nn.Sequential(nn.Linear(2, 2))
    torch.save({f'layers.{i}.{name}': torch.zeros(2, 2) if name == 'weight' else torch.zeros(2) for i in range(2)
                for name in ('weight', 'bias')} | {'fc.weight': torch.zeros(1)}, 'deep.pth')
    with pytest.raises(UserError, match='2 are unknown .layers.1.weight, layers.1.bias.'):  # not that of the head
        fill_part(sequence, 'deep.pth')


def test_pickles_are_no_checkpoints():
    Path('weights.pth').write_bytes(pickle.dumps(dict(state_dict=Malicious())))
    with pytest.raises(UserError, match='is no checkpoint'):
        read_state_dict('weights.pth')
    assert not Path('executed').exists()


@pytest.mark.parametrize('around', [
    dict(meta='of another program'), dict(meta=dict(dataset_meta='pets')),
    dict(meta=dict(dataset_meta=dict(classes='cat'))),
    dict(state_dict_ema={}), {0: torch.zeros(1)}], ids=['meta', 'dataset_meta', 'classes', 'empty', 'number'])
def test_what_other_programs_keep_beside_the_tensors(tmp_path, around):
    torch.save(around | dict(state_dict=dict(weight=torch.ones(2))), tmp_path / 'other.pth')
    tensors, meta = read_checkpoint(tmp_path / 'other.pth')
    assert list(tensors) == ['weight'] and checkpoint_classes(meta) is None
