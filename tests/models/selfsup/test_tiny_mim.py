"""The algorithm: losses, masks, views, and a teacher that nobody sees."""
import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from tiny_networks import build, gradients, tiny_vit_config, vit_config

from mmtinyvit.errors import UserError
from mmtinyvit.models.selfsup import TinyMIM

LOSSES = [
    dict(type='mmtinyvit.RelationDistillationLoss', relations=['vv']),
    dict(type='mmtinyvit.ClassTokenDistillationLoss', student_dims=16, teacher_dims=32),
    dict(type='mmtinyvit.FeatureDistillationLoss', student_dims=16, teacher_dims=32, loss_weight=0.5),
]


def algorithm(teacher: dict, **more) -> TinyMIM:
    return TinyMIM(**dict(backbone=build(vit_config(last_heads=4)), teacher=teacher) | more)


def images(count: int = 2, size: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, size, size)


def masked_samples(count: int, hidden: int) -> list[DataSample]:
    return [DataSample().set_mask((torch.randperm(16) < hidden).int().view(4, 4)) for _ in range(count)]


# ---------------------------------------------------------------- losses
def test_the_same_network_with_the_same_image_has_nothing_to_learn(teacher):
    same = build(teacher['backbone'])
    same.load_state_dict(torch.load(teacher['checkpoint']))
    model = algorithm(teacher, backbone=same, block=3)
    losses = model.loss(images(), [])
    assert {name: value.item() for name, value in losses.items()} == dict(loss_qk=0., loss_vv=0.)
    other = algorithm(teacher, backbone=same, block=2).loss(images(), [])
    assert all(value > 1e-4 for value in other.values())


def test_each_network_gets_its_view(teacher):
    model = algorithm(teacher).train(False)
    ours, theirs = images(), images()
    pair = model.loss([theirs, ours], [])
    assert model.loss([theirs, theirs + 1], [])['loss_qk'] != pair['loss_qk']
    assert model.loss([theirs + 1, ours], [])['loss_qk'] != pair['loss_qk']
    assert torch.equal(model.loss([ours, ours], [])['loss_vv'], model.loss(ours, [])['loss_vv'])


def test_losses_may_be_combined_and_repeated(teacher):
    model = algorithm(teacher, losses=LOSSES).train(False)
    views = images()
    losses = model.loss(views, [])
    assert list(losses) == ['loss_vv', 'loss_cls', 'loss_feature']
    alone = algorithm(teacher, backbone=model.backbone, losses=LOSSES[:1]).loss(views, [])
    assert torch.allclose(losses['loss_vv'], alone['loss_vv'])
    twice = algorithm(teacher, backbone=model.backbone, losses=LOSSES[:1] * 2).loss(views, [])
    assert torch.allclose(twice['loss_vv'], 2 * alone['loss_vv'])


def test_a_masked_pair_sees_the_same_patches_alone(teacher):
    model, views, samples = algorithm(teacher, masked=True), images(), masked_samples(2, 12)
    losses = model.loss(views, samples)
    hidden = torch.stack([s.mask for s in samples])[:, None].repeat_interleave(8, 2).repeat_interleave(8, 3)
    other = model.loss(torch.where(hidden == 1, 9., views), samples)
    assert all(torch.equal(losses[name], other[name]) for name in losses)
    assert not torch.equal(model.loss(views, masked_samples(2, 12))['loss_qk'], losses['loss_qk'])


def test_tiny_vit_learns_from_a_vision_transformer(teacher):
    model = algorithm(teacher, backbone=build(tiny_vit_config()))
    losses = model.loss(images(size=64), [])
    assert list(losses) == ['loss_qk_stage3', 'loss_vv_stage3', 'loss_qk_stage4', 'loss_vv_stage4']
    sum(losses.values()).backward()
    learns = gradients(model)
    assert learns.keys() == {f'backbone.{name}' for name, _ in model.backbone.named_parameters()}
    assert all(learns[name] == p.requires_grad for name, p in model.named_parameters())
    assert learns['backbone.stages.3.blocks.0.attn.qkv.weight'] and learns['backbone.patch_embed.conv1.conv.weight']


# ---------------------------------------------------------------- what learns
def test_ten_tensors_are_frozen_and_kept(teacher):
    model = algorithm(teacher)
    sum(model.loss(images(), []).values()).backward()
    learns = gradients(model)
    assert all(learns[name] == p.requires_grad for name, p in model.named_parameters())
    assert sum(not each for each in learns.values()) == 10
    assert set(model.state_dict()) == {f'backbone.{name}' for name in build(vit_config()).state_dict()} | {
        name for name in model.state_dict() if name.startswith('data_preprocessor.')}


def test_a_step_leaves_the_teacher_as_it_was(teacher):
    model = algorithm(teacher)
    model.teacher.load()
    model.train()
    before = copy.deepcopy(model.teacher._model.state_dict())
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5))
    for _ in range(2):
        model.train_step(dict(inputs=[images(), images()], data_samples=[]), optimizer)
    after = model.teacher._model
    assert not after.training and not any(p.requires_grad for p in after.parameters())
    assert all(torch.equal(value, before[name]) for name, value in after.state_dict().items())
    assert len(after.layers) == 3  # of four: those behind the target block are not kept


def test_nobody_sees_the_teacher(teacher):
    model = algorithm(teacher, losses=LOSSES)
    model.teacher.load()
    assert not [name for name, _ in model.named_modules() if 'teacher' in name]
    assert {name.split('.')[0] for name in model.state_dict()} == {'backbone', 'losses'}
    assert copy.deepcopy(model).teacher is model.teacher
    assert ExponentialMovingAverage(model).module.teacher is model.teacher


def test_the_teacher_follows_the_device(teacher):
    model = algorithm(teacher)
    assert model.teacher(images())[0]['qkv'].device.type == 'cpu'
    tokens, grid = model.teacher(images().to('meta'))
    assert tokens['qkv'].device.type == 'meta' and tokens['qkv'].shape == (3, 2, 4, 17, 8) and grid == (4, 4)


def test_building_the_teacher_draws_no_random_numbers(teacher):
    model = algorithm(teacher)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    model.teacher.load()
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize('kind', ['VisionTransformer', 'MAEViT'])
def test_features_of_the_student(teacher, kind):
    """Nothing is masked, and a VisionTransformer that is finetuned afterwards computes the same."""
    model = algorithm(teacher, backbone=build(vit_config(last_heads=4, kind=kind, out_type='cls_token'))).eval()
    views = images()
    tuned = build(vit_config(last_heads=4))
    tuned.load_state_dict({k.removeprefix('backbone.'): v for k, v in model.state_dict().items() if 'backbone' in k})
    tuned.eval()
    assert torch.equal(model(views)[0], tuned(views)[0])


def test_under_autocast(teacher):
    model = algorithm(teacher)
    views = images()
    exact = model.loss(views, [])
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(views, [])
    for name, value in losses.items():
        assert value.dtype == torch.float32 and torch.allclose(value, exact[name], rtol=0.1)
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


# ---------------------------------------------------------------- wrong use
@pytest.mark.parametrize(('settings', 'said'), [
    (dict(backbone=vit_config(last_heads=2)), 'student has 2 heads over 17 tokens of 2 images and the teacher 4 heads'),
    (dict(losses=[]), 'needs at least one loss'),
    (dict(stages=(3, )), 'is for a mmtinyvit.TinyViT'),
    (dict(block=5), 'blocks 1 to 3, and no block 5'),
    (dict(masked=True), 'needs a mask with every sample'),
    (dict(backbone=tiny_vit_config(), block=3), 'name the stages of a TinyViT'),
    (dict(backbone=tiny_vit_config(), masked=True), 'cannot leave out patches'),
    (dict(backbone=tiny_vit_config(), losses=LOSSES), 'no class token'),
    (dict(backbone=tiny_vit_config(), stages=(1, )), 'stages with attention'),
    (dict(backbone=dict(type='mmpretrain.ResNet', depth=18)), 'The student ResNet cannot be tapped'),
])
def test_sentences(teacher, settings, said):
    with pytest.raises(UserError, match=said):
        algorithm(teacher, **settings).loss(images(), [DataSample(), DataSample()])


def test_sentences_about_the_teacher_and_views(teacher):
    with pytest.raises(UserError, match='The teacher VisionTransformer has blocks 1 to 4, and no block 9'):
        algorithm(teacher | dict(block=9)).loss(images(), [])
    with pytest.raises(UserError, match='got 3 views'):
        algorithm(teacher).loss([images()] * 3, [])
