"""Relations on a common grid, against a naive construction token by token."""
import pytest
import torch
from tiny_networks import build, tiny_vit_config

from mmtinyvit.errors import UserError
from mmtinyvit.models.selfsup.taps import check_stages, idle_parameters_of_stages, relate_on_grid, tap_stages


def maps_before_last_block(student, images) -> dict[int, torch.Tensor]:
    """What the network's own forward pass hands to the last block of each stage."""
    seen = {}
    hooks = [stage.blocks[-1].register_forward_pre_hook(lambda m, x, i=i: seen.update({i: x[0]}))
             for i, stage in enumerate(student.stages, 1)]
    student(images)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize('size', [64, (48, 80), 60])
@pytest.mark.parametrize('training', [False, True])
def test_queries_keys_and_values_token_by_token(size, training):
    student = build(tiny_vit_config())
    student.train(training)
    images = torch.randn(2, 3, *(size if isinstance(size, tuple) else (size, size)))
    expected = maps_before_last_block(student, images)
    tapped = tap_stages(student, images, (2, 3, 4))
    for stage, qkv in tapped.items():
        attn, x = student.stages[stage - 1].blocks[-1].attn, expected[stage]
        assert qkv.shape == (3, *x.shape)
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                token = attn.qkv(attn.norm(x[:, :, i, j])).view(2, attn.num_heads, 3, -1)
                for part in range(3):
                    assert torch.allclose(qkv[part, :, :, i, j], token[:, :, part].flatten(1), atol=1e-5)


def test_global_window_gives_the_attention_of_the_block():
    """With a window as large as the map, softmax(q k + bias) v of the tapped tensors is what the block computes."""
    student = build(tiny_vit_config())
    attn = student.stages[2].blocks[-1].attn  # window 4; 64 pixels give a map of 4 x 4 there
    images = torch.randn(2, 3, 64, 64)
    tokens = maps_before_last_block(student, images)[3].permute(0, 2, 3, 1)
    q, k, v = tap_stages(student, images, (3, ))[3].flatten(3).unflatten(2, (3, -1)).transpose(-2, -1)
    weights = (q @ k.mT * q.shape[-1]**-0.5 + attn.attention_biases[:, attn.attention_bias_idxs]).softmax(-1)
    ours = attn.proj((weights @ v).transpose(1, 2).flatten(2)).view_as(tokens)
    assert torch.allclose(ours, attn(tokens), atol=1e-5)


def test_common_grid_is_the_coarser_and_the_finer_is_averaged():
    student, teacher = torch.randn(3, 2, 12, 4, 4), torch.randn(3, 2, 4, 1 + 64, 5)
    ours, theirs = relate_on_grid(student, teacher, (8, 8))
    assert ours.shape == (3, 2, 4, 16, 3) and theirs.shape == (3, 2, 4, 16, 5)
    assert torch.equal(ours[1, 0, 2, 7], student[1, 0, 6:9, 1, 3])  # head 2 of width 3, row 1, column 3
    cell = [1 + row * 8 + column for row in (2, 3) for column in (6, 7)]  # behind the class token
    assert torch.allclose(theirs[1, 0, 2, 7], teacher[1, 0, 2, cell].mean(0), atol=1e-6)


def test_the_finer_student_is_averaged_too_and_sides_are_apart():
    student, teacher = torch.randn(3, 1, 4, 6, 2), torch.randn(3, 1, 2, 3 * 4, 5)  # no class token
    ours, theirs = relate_on_grid(student, teacher, (3, 4))
    assert ours.shape == (3, 1, 2, 6, 2) and theirs.shape == (3, 1, 2, 6, 5)
    assert torch.allclose(ours[0, 0, 1, 3], student[0, 0, 2:, 2:4, 1].mean(1), atol=1e-6)
    assert torch.allclose(theirs[0, 0, 1, 3], teacher[0, 0, 1, [6, 7]].mean(0), atol=1e-6)


def test_equal_grids_are_left_alone():
    student, teacher = torch.randn(3, 1, 4, 3, 3), torch.randn(3, 1, 2, 10, 5)
    ours, theirs = relate_on_grid(student, teacher, (3, 3))
    assert torch.equal(theirs, teacher[..., 1:, :]) and torch.equal(ours[2, 0, 0], student[2, 0, :2].flatten(1).T)


@pytest.mark.parametrize('stages', [(2, ), (3, ), (2, 3), (3, 4)])
def test_idle_parameters_are_exactly_those_without_gradient(stages):
    student = build(tiny_vit_config())
    loss = sum((qkv * torch.randn_like(qkv)).sum() for qkv in tap_stages(student, torch.randn(2, 3, 64, 64),
                                                                          stages).values())
    loss.backward()
    idle = {id(p) for p in idle_parameters_of_stages(student, stages)}
    assert {name for name, p in student.named_parameters() if p.grad is None} == {
        name for name, p in student.named_parameters() if id(p) in idle}
    assert any(name.startswith('norm3') for name, p in student.named_parameters() if id(p) in idle)


def test_recomputation_gives_the_same_gradients():
    grads = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        student = build(tiny_vit_config(with_cp=with_cp))
        images = torch.randn(2, 3, 64, 64)
        sum(qkv.square().sum() for qkv in tap_stages(student, images, (3, 4)).values()).backward()
        grads.append([p.grad for p in student.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) > 20
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(*grads, strict=True))


def test_heads_that_do_not_divide():
    with pytest.raises(UserError, match="The 10 channels of the student's stage cannot be cut into the 4 heads"):
        relate_on_grid(torch.zeros(3, 1, 10, 2, 2), torch.zeros(3, 1, 4, 5, 3), (2, 2))


@pytest.mark.parametrize('stages', [(), (1, ), (3, 5), (0, )])
def test_stages_without_attention(stages):
    with pytest.raises(UserError, match='stages with attention, 2, 3, 4'):
        check_stages(build(tiny_vit_config()), stages)
