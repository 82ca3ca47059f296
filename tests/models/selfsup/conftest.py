import pytest
import torch
from tiny_networks import build, vit_config


@pytest.fixture
def teacher(tmp_path):
    """A teacher of four blocks with four heads, tapped at the third."""
    config = vit_config(dims=32, layers=4, heads=4)
    torch.save(build(config).state_dict(), tmp_path / 'teacher.pth')
    return dict(backbone=config, checkpoint=str(tmp_path / 'teacher.pth'), block=3)
