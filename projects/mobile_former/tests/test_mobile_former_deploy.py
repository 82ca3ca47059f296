"""Mobile-Former learns in all of its parts, in mixed precision, as one graph, and leaves as ONNX."""
import pytest
import torch
from network_checks import check_autocast, check_gradients, check_one_graph, check_onnx, randomise
from torch import nn

from projects.mobile_former.mobile_former import MobileFormer, MobileFormerClsHead

SMALL = dict(stem=8, token_dims=16, num_tokens=3, head_channels=32, groups=4, blocks=[
    ('lite', 2, 8, 2), ('mobile', 2, 8), ('down', 2, 8, 2, 2), ('down', 2, 16, 2, 2), ('down', 2, 16, 2, 2)])


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(4, 3, 64, 70)


def build(arch: str, dense: bool = False) -> nn.Module:
    torch.manual_seed(0)
    if dense:
        return randomise(MobileFormer(arch, out_indices=(0, 1, 2, 3)))
    return randomise(nn.Sequential(MobileFormer(arch), MobileFormerClsHead.of(arch, 10)))


@pytest.mark.parametrize('arch', ['294m', '26m'])  # without and with groups
def test_every_parameter_learns(arch, images):
    check_gradients(build(arch), images)


def test_every_parameter_learns_from_maps(images):
    check_gradients(build('26m', dense=True), images)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_mixed_precision(dtype, images):
    check_autocast(build('26m'), images, dtype)


def test_one_graph(images):
    check_one_graph(randomise(MobileFormer(SMALL, out_indices=(1, ))), images)  # one block of each kind


@pytest.mark.parametrize('arch, dense', [('52m', False), ('26m', True)])
def test_onnx(arch, dense, images, tmp_path):
    check_onnx(build(arch, dense), images, tmp_path / 'model.onnx')
