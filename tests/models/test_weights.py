"""Weights are taken completely or not at all, from every layout, and nothing in a file is run."""
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from file_server import file_server
from mmengine.logging import HistoryBuffer, MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader, load_checkpoint
from safetensors.torch import save_file

from mmtinyvit.errors import UserError
from mmtinyvit.models.backbones import TinyViT
from mmtinyvit.models.checkpoint_keys import convert_state_dict
from mmtinyvit.models.checkpoints import fetch_weights, read_state_dict
from mmtinyvit.models.weights import fill_module
from mmtinyvit.zoo.download import local_path
from mmtinyvit.zoo.index import find_entry

ARCH = dict(embed_dims=(8, 16, 24, 32), num_heads=(1, 2, 3, 2), depths=(1, 1, 2, 1), window_sizes=(7, 3, 4, 2))
MAPS = dict(out_indices=(0, 1, 2, 3), gap_before_output=False)


@pytest.fixture(scope='module')
def classifier():
    """A classifier whose weights are all different from the initial ones."""
    init_default_scope('mmpretrain')
    torch.manual_seed(1)
    model = MODELS.build(dict(
        type='ImageClassifier', backbone=dict(type='mmtinyvit.TinyViT', arch=ARCH),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=32)))
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape) + .1)
    return model


def backbone(checkpoint, prefix: str | None = 'backbone.', arch: dict = ARCH, **options) -> TinyViT:
    model = TinyViT(arch, init_cfg=dict(type='Pretrained', checkpoint=str(checkpoint), prefix=prefix), **MAPS | options)
    model.init_weights()
    return model


def assert_filled(model: TinyViT, classifier) -> None:
    source = classifier.backbone.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, source[name]), name


# ---------------------------------------------------------------- what is taken
@pytest.mark.parametrize('layout', ['ours', 'runner', 'Cream', 'timm', 'mmpretrain', 'bare', 'ddp'])
@pytest.mark.parametrize('prefix', ['backbone.', 'backbone', None])
def test_every_layout_fills_a_detectors_backbone(classifier, layout, prefix, tmp_path):
    state = classifier.state_dict()
    saved = {
        'ours': lambda: state, 'runner': lambda: dict(state_dict=state, meta=dict(epoch=3)),
        'Cream': lambda: dict(model=convert_state_dict(state, 'Cream'), epoch=90),
        'timm': lambda: convert_state_dict(state, 'timm'),
        'mmpretrain': lambda: convert_state_dict(state, 'mmpretrain'), 'bare': lambda: classifier.backbone.state_dict(),
        'ddp': lambda: {f'module.{name}': value for name, value in state.items()},
    }[layout]()
    torch.save(saved, tmp_path / 'weights.pth')
    assert_filled(backbone(tmp_path / 'weights.pth', prefix), classifier)


def test_safetensors(classifier, tmp_path):
    state = {name: value.contiguous() for name, value in classifier.state_dict().items()}
    save_file(state, tmp_path / 'weights.safetensors')
    assert_filled(backbone(tmp_path / 'weights.safetensors'), classifier)


def test_a_url(classifier, tmp_path, monkeypatch):
    """Downloaded once; afterwards the server is not needed. Files of one name at two addresses are kept apart."""
    torch.save(classifier.state_dict(), tmp_path / 'weights.pth')
    whole = (tmp_path / 'weights.pth').read_bytes()
    monkeypatch.setenv('MMTINYVIT_CACHE', str(tmp_path / 'cache'))
    with file_server() as server:
        server.files |= {'/weights.pth': whole, '/other/weights.pth': b'no weights', '/short.pth': whole[:5000]}
        assert_filled(backbone(f'{server.url}/weights.pth'), classifier)
        with pytest.raises(UserError, match='nothing.pth cannot be downloaded .HTTP 404 Not Found.: check the address'):
            backbone(f'{server.url}/nothing.pth')
        with pytest.raises(UserError, match='short.pth is no checkpoint of tensors'):
            backbone(f'{server.url}/short.pth')
        with pytest.raises(UserError, match='other/weights.pth is no checkpoint of tensors'):
            backbone(f'{server.url}/other/weights.pth')
        server.files['/short.pth'] = whole
        assert_filled(backbone(f'{server.url}/short.pth'), classifier)  # what was damaged has not been kept
    assert_filled(backbone(f'{server.url}/weights.pth'), classifier)
    with pytest.raises(UserError, match='new.pth cannot be reached'):
        backbone(f'{server.url}/new.pth')


def test_a_download_that_would_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(model=Malicious()), tmp_path / 'weights.pth')
    monkeypatch.setenv('MMTINYVIT_CACHE', str(tmp_path / 'cache'))
    with file_server() as server:
        server.files['/weights.pth'] = (tmp_path / 'weights.pth').read_bytes()
        with pytest.raises(UserError, match='is no checkpoint of tensors and plain values'):
            fetch_weights(f'{server.url}/weights.pth')
    assert not Path('executed').exists()
    assert not [path for path in (tmp_path / 'cache').rglob('*') if path.is_file()]


def test_mmengine_gets_published_files_from_here(classifier, tmp_path, monkeypatch):
    """`load_from` and mmpretrain's `get_model` of a published address: the original's file, with its configuration."""
    class CfgNode(dict):
        """As yacs pickles it."""

    CfgNode.__module__, CfgNode.__qualname__ = 'yacs.config', 'CfgNode'
    fake = SimpleNamespace(CfgNode=CfgNode)
    with mock.patch.dict(sys.modules, {'yacs': SimpleNamespace(config=fake), 'yacs.config': fake}):
        renamed = convert_state_dict(classifier.state_dict(), 'Cream')
        torch.save(dict(model=renamed, config=CfgNode(lr=1)), tmp_path / 'net.pth')
    monkeypatch.setenv('MMTINYVIT_CACHE', str(tmp_path / 'cache'))
    entry = find_entry('mmtinyvit-5m_3rdparty_in1k')
    path = local_path(entry.url)
    path.parent.mkdir(parents=True)
    shutil.copy(tmp_path / 'net.pth', path)
    loaded = MODELS.build(dict(
        type='ImageClassifier', backbone=dict(type='mmtinyvit.TinyViT', arch=ARCH),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=32)))
    load_checkpoint(loaded, entry.url, strict=True)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, classifier.state_dict()[name]), name
    large = find_entry('mmtinyvit-5m_distill_3rdparty_in21k')
    shutil.copy(tmp_path / 'net.pth', local_path(large.url))
    classes = CheckpointLoader.load_checkpoint(large.url)['meta']['dataset_meta']['classes']
    assert len(classes) == 21841


def test_other_windows_are_interpolated(classifier, tmp_path):
    torch.save(classifier.state_dict(), tmp_path / 'weights.pth')
    model = backbone(tmp_path / 'weights.pth', window_sizes=(7, 6, 8, 4))
    assert model.stages[2].blocks[1].attn.attention_biases.shape == (3, 64)
    expected = classifier.backbone.stages[2].blocks[1].attn.qkv.weight
    assert torch.equal(model.stages[2].blocks[1].attn.qkv.weight, expected)


def test_what_was_taken_is_logged(classifier, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr('mmtinyvit.models.backbones.tiny_vit.print_log', lambda line, **_: lines.append(line))
    torch.save(classifier.state_dict(), tmp_path / 'weights.pth')
    model = backbone(tmp_path / 'weights.pth')
    counted = [name for name in model.state_dict() if 'num_batches_tracked' not in name]
    assert lines == [f'TinyViT: all {len(counted)} tensors filled from {tmp_path}/weights.pth (under backbone.)']


def test_the_other_initialisers_still_run(classifier, tmp_path):
    """Of a classifier, only the backbone comes from the file."""
    init_default_scope('mmpretrain')
    torch.save(classifier.state_dict(), tmp_path / 'weights.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth'), prefix='backbone.')
    MMLogger.get_instance('test_weights', log_file=str(tmp_path / 'log.txt'))
    model = MODELS.build(dict(
        type='ImageClassifier', backbone=dict(type='mmtinyvit.TinyViT', arch=ARCH, init_cfg=pretrained),
        head=dict(type='LinearClsHead', num_classes=7, in_channels=32,
                  init_cfg=dict(type='Constant', layer='Linear', val=.5))))
    model.init_weights()
    assert_filled(model.backbone, classifier)
    assert (model.head.fc.weight == .5).all()
    model.backbone.patch_embed.conv1.conv.weight.data.zero_()
    model.backbone.init_weights()  # once is enough: a second call must not undo training
    assert model.backbone.patch_embed.conv1.conv.weight.abs().sum() == 0


# ---------------------------------------------------------------- what is refused
def test_another_size_names_every_difference(classifier, tmp_path):
    torch.save(classifier.state_dict(), tmp_path / 'weights.pth')
    deeper = ARCH | dict(depths=(1, 2, 2, 1))
    with pytest.raises(UserError) as caught:
        backbone(tmp_path / 'weights.pth', arch=deeper)
    sentence = str(caught.value)
    assert 'does not fill TinyViT: of ' in sentence and '0 are of another shape, and 0 are unknown' in sentence
    assert '18 are missing (stages.1.blocks.1.attn.attention_biases, ' in sentence
    shallower = ARCH | dict(depths=(1, 1, 1, 1))
    with pytest.raises(UserError, match=r'0 are missing, .* and 18 are unknown \(stages.2.blocks.1.attn'):
        backbone(tmp_path / 'weights.pth', arch=shallower)
    wider = ARCH | dict(embed_dims=(8, 16, 24, 36), num_heads=(1, 2, 3, 2))
    with pytest.raises(UserError, match=r'stages.3.downsample.conv1.bn.weight is \[32\] instead of \[36\]'):
        backbone(tmp_path / 'weights.pth', arch=wider)


def test_a_lost_tensor(classifier, tmp_path):
    state = classifier.state_dict()
    del state['backbone.stages.2.blocks.1.mlp.fc1.bias']
    torch.save(state, tmp_path / 'weights.pth')
    with pytest.raises(UserError, match=r'1 are missing \(stages.2.blocks.1.mlp.fc1.bias\), 0 are of another shape'):
        backbone(tmp_path / 'weights.pth')


def test_counters_do_not_count(classifier, tmp_path):
    """timm's safetensors come without them."""
    state = {name: value for name, value in classifier.state_dict().items() if 'num_batches' not in name}
    torch.save(state, tmp_path / 'weights.pth')
    assert len(state) < len(classifier.state_dict())
    assert_filled(backbone(tmp_path / 'weights.pth'), classifier)


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path('executed'), )


@pytest.mark.parametrize('content, words', [
    (None, 'There is no checkpoint .*: check the path'),
    (b'PK no checkpoint', 'is no checkpoint of tensors and plain values, or it is damaged'),
    (dict(model=Malicious()), 'is no checkpoint of tensors and plain values'),
    (dict(model=dict()), 'holds no state dict'),
    ([1, 2], 'holds no state dict'),
    (dict(weight=torch.zeros(2)), 'holds no TinyViT, neither under backbone. nor without a prefix .its first keys'),
])
def test_other_files(content, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if isinstance(content, bytes):
        Path('weights.pth').write_bytes(content)
    elif content is not None:
        torch.save(content, 'weights.pth')
    with pytest.raises(UserError, match=words):
        backbone('weights.pth')
    assert not Path('executed').exists()


def test_fill_module_counts_and_lets_parts_start_anew():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    state = {name: value for name, value in model.state_dict().items() if name.startswith('0.')}
    assert fill_module(model, state, 'here', fresh=('1.', )) == 2
    assert fill_module(model, state | {'1.weight': torch.ones(5)}, 'here', fresh=('1.', )) == 2
    with pytest.raises(UserError, match=r'here does not fill Sequential: of 6 tensors 4 are missing \(1.weight'):
        fill_module(model, state, 'here')


@pytest.mark.parametrize('dtype', [torch.int8, torch.uint8, torch.bool, torch.complex64])
def test_numbers_of_another_kind(dtype):
    """PyTorch would copy them: an int8 weight without its scale, or the real part alone."""
    model, own = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3).state_dict()
    says = f'here has integers .* the reverse: weight is {str(dtype)[6:]} instead of float32; give the weights'
    with pytest.raises(UserError, match=says):
        fill_module(model, own | dict(weight=torch.ones(3).to(dtype)), 'here')
    assert fill_module(model, own | dict(weight=torch.ones(3).to(dtype)), 'here', fresh=('weight', )) == 3
    assert fill_module(model, own | dict(num_batches_tracked=torch.tensor(2.5)), 'here') == 4  # averaged
    half = {name: value.to(torch.float8_e4m3fn) if value.ndim else value for name, value in own.items()}
    assert fill_module(model, half, 'here') == 4


class Masked(torch.nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 2)
        self.register_buffer('mask', torch.full((2, 2), -torch.inf))


@pytest.mark.parametrize('changed, named', [
    (dict(), None), (dict(weight=torch.tensor([[1., torch.nan], [0, 0]])), 'weight'),
    (dict(bias=torch.tensor([torch.inf, 0.])), 'bias'), (dict(mask=torch.full((2, 2), torch.nan)), 'mask')])
def test_weights_that_are_no_numbers_are_named(changed, named, tmp_path):
    MMLogger.get_instance(f'no numbers {named}', log_file=str(tmp_path / 'log.txt'))
    assert fill_module(Masked(), Masked().state_dict() | changed, 'here') == 3
    said = (tmp_path / 'log.txt').read_text()
    assert (f'The checkpoint here has NaN or infinite weights: {named} of Masked; ' in said) == bool(named)
    assert ('WARNING' in said) == bool(named)


def test_reading_leaves_out_what_is_no_tensor(tmp_path):
    torch.save(dict(state_dict=dict(a=torch.ones(1), note='hello')), tmp_path / 'weights.pth')
    assert list(read_state_dict(tmp_path / 'weights.pth')) == ['a']


def test_reading_a_training_leaves_its_curves_alone(tmp_path):
    """MMEngine restores a curve's methods for the whole process; what stands in for them must not get there."""
    buffer = HistoryBuffer([1., 3.], [1, 1])
    torch.save(dict(state_dict=dict(weight=torch.ones(2)), message_hub=dict(log_scalars=dict(loss=buffer))),
               tmp_path / 'epoch_1.pth')
    assert read_state_dict(tmp_path / 'epoch_1.pth')['weight'].tolist() == [1, 1]
    assert HistoryBuffer([2., 4.], [1, 1]).statistics('mean') == 3
