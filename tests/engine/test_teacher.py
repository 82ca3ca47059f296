"""What a teacher is shown of a mixed view: the student's own mix, at the teacher's size and normalisation."""
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, init_default_scope
from tiny_flow import NORM, photo_dataset

from mmtinyvit.engine.teacher import Teacher

CUT = dict(mixup_alpha=0., cutmix_alpha=1.)


class Looking(torch.nn.Module):
    """A teacher of four classes that keeps what it was shown; it wants 51 pixels and has a normalisation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.data_preprocessor = preprocessor(input_size=51, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)

    def forward(self, inputs: torch.Tensor, mode: str) -> torch.Tensor:
        self.seen = inputs
        return inputs.new_zeros(len(inputs), 4)


def preprocessor(**kwargs) -> torch.nn.Module:
    return MODELS.build(dict(type='mmtinyvit.ReplayDataPreprocessor', **kwargs))


@pytest.mark.parametrize('mixing', [CUT, dict(mixup_alpha=0.8, cutmix_alpha=0.)], ids=['cutmix', 'mixup'])
def test_the_mix_is_the_students_at_another_size(photos, mixing):
    init_default_scope('mmpretrain')
    teacher = Teacher(Looking(), photo_dataset(photos), mixing=mixing)
    student = preprocessor(mixing=mixing | dict(base_seed=7), **NORM)
    data = teacher.collate([teacher.dataset[item] for item in teacher.items(1, torch.arange(6).numpy())])
    mixed = student(dict(data), training=True)['inputs'][::2]
    assert not torch.equal(mixed, student(dict(data))['inputs'][::2])
    pixels = mixed * student.std + student.mean
    teacher.ask(data)
    assert torch.allclose(teacher.model.seen, F.interpolate((pixels - 127.5) / 127.5, (51, 51), mode='bicubic',
                                                            antialias=True), atol=1e-5)
