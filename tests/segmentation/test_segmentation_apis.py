"""mmseg's own ways to use a segmenter, and the tools' sentences where something is missing."""
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmseg.apis import MMSegInferencer, inference_model, init_model
from PIL import Image
from tiny_segmentation import CLASSES, COLOURS, segmenter

from mmtinyvit.cli.runner import build_runner

FPN, VIT = 'segmentation/semantic_fpn_tiny_vit_5m_80k_ade20k', 'segmentation/upernet_tinymim_base_160k_ade20k'


@pytest.fixture(scope='module', params=[FPN, VIT])
def trained(request, rectangles, tmp_path_factory):
    """Config file and checkpoint of a segmenter."""
    folder = tmp_path_factory.mktemp('trained')
    cfg = segmenter(request.param, rectangles, folder, checkpoint='not/needed/to/use/it.pth')
    cfg.dump(folder / 'config.py')
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    meta = dict(dataset_meta=dict(classes=CLASSES, palette=[list(colour) for colour in COLOURS]))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'weights.pth')
    return str(folder / 'config.py'), str(folder / 'weights.pth')


def test_init_and_inference_model(trained, rectangles):
    model = init_model(*trained, device='cpu')
    assert not model.training
    path = str(rectangles / 'images/val/000.jpg')
    by_path = inference_model(model, path).pred_sem_seg.data
    by_array = inference_model(model, np.array(Image.open(path))[..., ::-1].copy()).pred_sem_seg.data
    assert by_path.shape == (1, *np.array(Image.open(path)).shape[:2]) and by_path.max() < len(CLASSES)
    assert (by_path == by_array).float().mean() > .98  # two decoders of JPEG


def test_the_tool_merges_mirror_images_and_draws(trained, rectangles, run_tool, tmp_path):
    """Equal to the mean of the two probabilities, judged by the masks as they are."""
    ended = run_tool('test', *trained, '--work-dir', tmp_path / 'work', '--tta', '--show-dir', tmp_path / 'pictures',
                     '--out', tmp_path / 'out.json')
    assert ended.status == 0, ended.err
    right = total = 0
    model = init_model(*trained, device='cpu')
    model.cfg.test_pipeline = model.cfg.test_dataloader.dataset.pipeline  # which mmseg's function does not ask
    for path in sorted((rectangles / 'images/val').iterdir()):
        photo, mask = mmcv.imread(path), mmcv.imread(rectangles / f'annotations/val/{path.stem}.png', 'unchanged')
        here, mirrored = (inference_model(model, np.ascontiguousarray(image)).seg_logits.data.softmax(0)
                          for image in (photo, photo[:, ::-1]))
        right += int(((here + mirrored.flip(2)).argmax(0).numpy() == mask).sum())
        total += mask.size
    assert json.loads((tmp_path / 'out.json').read_text())['aAcc'] == pytest.approx(100 * right / total, abs=.2)
    assert [path.name for path in sorted((tmp_path / 'pictures').glob('vis_data/vis_image/*'))] == [
        'test_000.jpg_1.png', 'test_001.jpg_2.png']


def test_inferencer_draws_its_result(trained, rectangles, tmp_path):
    inferencer = MMSegInferencer(*trained, device='cpu', show_progress=False)
    path = rectangles / 'images/val/001.jpg'
    inferencer(str(path), out_dir=str(tmp_path))
    drawn, = (np.array(Image.open(file).convert('RGB')) for file in (tmp_path / 'vis').glob('*'))
    plain = np.array(Image.open(path))
    assert drawn.shape == plain.shape and (drawn != plain).any()
    assert len(list((tmp_path / 'pred').glob('*'))) == 1


# ---------------------------------------------------------------- what the tools say
def test_no_data(run_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for tool, args in (('train', []), ('test', [__file__])):
        sentence = run_tool(tool, f'configs/{FPN}.py', *args).sentence
        assert 'needs data/ade/ADEChallengeData2016, which does not exist: get ADEChallengeData2016.zip' in sentence
    assert not Path('work_dirs').exists()


def test_no_pretrained_weights(run_tool, rectangles, tmp_path):
    for name in (FPN, VIT):
        segmenter(name, rectangles, tmp_path / 'work', checkpoint=tmp_path / 'nothing.pth').dump(tmp_path / 'config.py')
        assert run_tool('train', tmp_path / 'config.py').sentence == (
            f'There is no checkpoint {tmp_path}/nothing.pth: check the path.')


def test_no_operators(run_tool, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv._ext', None)
    sentence = run_tool('train', f'configs/{FPN}.py').sentence
    assert "needs mmcv's compiled operators, which this environment does not have" in sentence


def test_no_mmseg(run_tool, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmseg', None)
    assert 'needs mmseg, which is not installed' in run_tool('train', f'configs/{FPN}.py').sentence


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_processes_without_gpus_keep_their_own_batchnorm(tmp_path, monkeypatch):
    """torch's SyncBatchNorm refuses to train on a CPU."""
    monkeypatch.setattr('torch.distributed.is_initialized', lambda: True)
    monkeypatch.setenv('RANK', '0')
    cfg = Config(dict(model=dict(), work_dir=str(tmp_path), launcher='pytorch', sync_bn='torch'))
    assert build_runner(cfg, SimpleNamespace(from_cfg=lambda cfg: cfg)).sync_bn is None
