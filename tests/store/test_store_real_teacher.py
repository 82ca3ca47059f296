"""The compact codec on what a real teacher says about real photos."""
import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from store_teacher import sparsify

from mmtinyvit.store import make_codec

pytestmark = pytest.mark.realdata


@pytest.fixture(scope='module')
def outputs():
    data = os.environ.get('MMTINYVIT_DATA')
    if not data:
        pytest.skip('MMTINYVIT_DATA does not name the folder of real photos')
    model = timm.create_model('mobilenetv2_100', pad_type='same').eval()
    model.load_state_dict(torch.load(Path(data, 'teacher_mobilenetv2/tf2_mobilenet_v2_1_0_224_ptq_timm.pth'),
                                     weights_only=True))
    files = sorted(Path(data, 'imagenet_sample/val').glob('*/*'))[::10]
    images = np.stack([np.asarray(Image.open(file).convert('RGB').resize((224, 224))) for file in files])
    with torch.inference_mode():
        batches = torch.from_numpy(images).permute(0, 3, 1, 2).float().sub(127.5).div(127.5).split(25)
        return torch.cat([model(batch) for batch in batches]).double().log_softmax(1).numpy()


@pytest.mark.parametrize('topk', [10, 100])
def test_error_on_a_real_teacher(outputs, topk):
    codec = make_codec('compact', topk, 1000)
    found_index, found_log_prob, found_tail, _ = codec.decode(codec.encode(sparsify(outputs, topk)))
    rows = np.arange(len(found_index))
    assert len(rows) == 100
    assert (found_index[rows, found_log_prob.argmax(axis=1)] == outputs.argmax(axis=1)).all()
    exact = np.take_along_axis(outputs, found_index, 1)
    p, rest = np.exp(exact), 1 - np.exp(exact).sum(axis=1)
    kl = (p * (exact - found_log_prob)).sum(axis=1) + rest * np.log(rest / found_tail)
    assert -1e-6 < kl.min() and kl.mean() < 1e-4 and kl.max() < 1e-3
