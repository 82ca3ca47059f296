"""The batch of one normalisation under another, against the pixels in float64."""
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from tiny_flow import NORM

from mmtinyvit.errors import UserError
from mmtinyvit.models.data_preprocessors import renormalise

OTHER = dict(mean=[10., 20., 30.], std=[40., 50., 60.], to_rgb=False)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)


def preprocessor(kind: str = 'mmpretrain.ClsDataPreprocessor', **settings) -> torch.nn.Module:
    return MODELS.build(dict(type=kind, **settings))


@pytest.mark.parametrize('theirs', [
    NORM, OTHER, OTHER | dict(to_rgb=True), NORM | dict(to_rgb=False), dict(), dict(mean=[127.5] * 3, std=[127.5] * 3)])
@pytest.mark.parametrize('ours', [NORM, OTHER])
def test_normalising_anew_is_normalising_the_pixels(ours, theirs):
    """Also after Mixup, against the mixture of pixels that were normalised for the teacher, in float64."""
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    first, second = preprocessor(**ours), preprocessor(**theirs)

    def exact(settings: dict) -> torch.Tensor:
        x = pixels.double().flip(1) if settings.get('to_rgb') else pixels.double()
        mean, std = (torch.tensor(settings.get(name, [default] * 3), dtype=torch.float64)[:, None, None]
                     for name, default in (('mean', 0.), ('std', 1.)))
        return (x - mean) / std

    def mix(x: torch.Tensor) -> torch.Tensor:
        return 0.3 * x + 0.7 * x.flip(0)

    batch = first(dict(inputs=pixels))['inputs']
    slack = 2e-6 * exact(theirs).abs().max()
    assert (renormalise(batch, first, second) - exact(theirs)).abs().max() < slack
    assert (renormalise(mix(batch), first, second) - mix(exact(theirs))).abs().max() < slack


def test_the_teachers_input_size():
    batch = torch.randn(2, 3, 8, 8)
    larger = preprocessor('mmtinyvit.ReplayDataPreprocessor', input_size=12, **NORM)
    wanted = torch.nn.functional.interpolate(batch, (12, 12), mode='bicubic', antialias=True)
    for inputs in (batch, wanted):
        assert torch.allclose(renormalise(inputs, preprocessor(**NORM), larger), wanted, atol=1e-5)


def test_a_preprocessor_of_another_kind_is_refused():
    with pytest.raises(UserError, match='SelfSupDataPreprocessor'):
        renormalise(torch.zeros(2, 3, 8, 8), preprocessor(**NORM), preprocessor('mmpretrain.SelfSupDataPreprocessor'))
