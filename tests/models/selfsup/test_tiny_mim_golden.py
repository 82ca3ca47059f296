"""The losses of the released code, on weights and images that anyone can recompute.

From the official TinyMIM with the MAE ViT-B (12 heads, block 12) as teacher and ViT-T as student (6 heads, in the last
block 12), both filled by ``hash_fill``; teacher image x, student image sin(3 x).
"""
import pytest
import torch
from hash_fill import fill, image
from mmengine.registry import MODELS, init_default_scope

from mmtinyvit.models.selfsup import TinyMIM

LOSSES = dict(loss_qk=0.1707824535526835, loss_vv=0.2068995086517599)
RELATIONS = {  # of the teacher: standard deviation, largest, first two and last two entries of (1, 12, 197, 197)
    'qk': (0.002705357087373586, 0.0522704929472024, 0.004380455198430835, 0.002825699427659628, 0.003137363940121069,
           0.005263556164327106),
    'vv': (0.003860281872051759, 0.23949226517048244, 0.017816106924483446, 0.003971770438755599,
           0.002659027910611623, 0.01573305354007841),
}


@pytest.fixture(scope='module')
def official():
    """The algorithm with both networks filled, and two views of one image."""
    init_default_scope('mmpretrain')
    teacher = fill(MODELS.build(dict(type='MAEViT', arch='base')))
    student = dict(type='MAEViT', arch='deit-tiny', layer_cfgs=[*[dict(num_heads=6)] * 11, dict(num_heads=12)])
    algorithm = TinyMIM(student, dict(backbone=teacher, block=12))
    fill(algorithm.backbone)
    return algorithm, [image(224), torch.sin(3 * image(224))]


def test_losses(official):
    algorithm, views = official
    with torch.no_grad():
        losses = algorithm.loss(views, [])
    assert losses.keys() == LOSSES.keys()
    for name, value in losses.items():
        assert value.dtype == torch.float64 and abs(value.item() - LOSSES[name]) < 1e-8


def test_relations_of_the_teacher(official):
    algorithm, views = official
    q, k, v = algorithm.teacher(views[0])[0]['qkv']
    for name, (a, b) in dict(qk=(q, k), vv=(v, v)).items():
        relation = (a @ b.mT * a.shape[-1]**-0.5).softmax(-1)
        assert relation.shape == (1, 12, 197, 197)
        flat = relation.flatten()
        got = torch.stack([flat.std(), flat.max(), flat[0], flat[1], flat[-2], flat[-1]])
        assert torch.allclose(got, torch.tensor(RELATIONS[name], dtype=torch.float64), rtol=0, atol=1e-8), name
