"""Tokens of a vision transformer: those of its own forward pass, and no more computed than asked for."""
import pytest
import torch
from tiny_networks import build, vit_config

from mmtinyvit.errors import UserError
from mmtinyvit.models.losses.tinymim import FEATURES
from mmtinyvit.models.selfsup.taps import check_vit, idle_parameters, tap_vit, visible_patches

KINDS = [
    dict(),
    dict(kind='MAEViT'),
    dict(final_norm=False, out_type='avg_featmap'),
    dict(pre_norm=True, with_cls_token=False, out_type='featmap'),
    dict(layer_scale_init_value=0.5),
]


def hooked(vit: torch.nn.Module, block: int, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the network's own forward pass computes inside a block."""
    seen, layer = {}, vit.layers[block - 1]
    hooks = [
        layer.attn.qkv.register_forward_hook(lambda m, i, o: seen.update(qkv=o)),
        layer.attn.register_forward_hook(lambda m, i, o: seen.update(attn=o)),
        layer.ln2.register_forward_hook(lambda m, i, o: seen.update(attn_residual=i[0])),
        layer.register_forward_hook(lambda m, i, o: seen.update(block=o)),
        vit.layers[-1].register_forward_hook(lambda m, i, o: seen.update(final=o)),
    ]
    if vit.final_norm:
        hooks.append(vit.ln1.register_forward_hook(lambda m, i, o: seen.update(final=o)))
    vit(images, **dict(mask=None) if type(vit).__name__ == 'MAEViT' else {})
    for hook in hooks:
        hook.remove()
    B, N, D = seen['block'].shape
    seen['ffn'] = seen['block'] - seen['attn_residual']
    return seen | dict(qkv=seen['qkv'].view(B, N, 3, layer.attn.num_heads, -1).permute(2, 0, 3, 1, 4))


@pytest.mark.parametrize('size', [32, (24, 40)], ids=['its size', 'another size'])
@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: '-'.join(kind) or 'plain')
def test_tokens_are_those_of_the_forward_pass(kind, size):
    vit = build(vit_config(**kind))
    images = torch.randn(2, 3, *(size if isinstance(size, tuple) else (size, size)))
    for block in (1, 3):
        with torch.no_grad():
            expected = hooked(vit, block, images)
            tokens, grid = tap_vit(vit, images, block, FEATURES)
        assert grid == (images.shape[2] // 8, images.shape[3] // 8)
        for name in FEATURES:
            assert torch.equal(tokens[name], expected[name]), name


def test_nothing_behind_queries_keys_and_values_runs():
    vit, ran = build(vit_config(layers=4)), []
    for name, module in vit.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    tap_vit(vit, torch.randn(1, 3, 32, 32), 2, ['qkv'])
    assert not [name for name in ran if name.startswith(('layers.2', 'layers.3', 'ln1', 'layers.1.ffn', 'layers.1.ln2'))
                or name in ('layers.1', 'layers.1.attn', 'layers.1.attn.proj')]
    assert 'layers.1.attn.qkv' in ran and 'layers.0' in ran


@pytest.mark.parametrize('block', [2, 3])
@pytest.mark.parametrize('feature', FEATURES)
def test_idle_parameters_are_exactly_those_without_gradient(feature, block):
    vit = build(vit_config(layer_scale_init_value=0.1, out_type='avg_featmap'))
    tokens, _ = tap_vit(vit, torch.randn(2, 3, 32, 32), block, [feature])
    (tokens[feature] * torch.randn_like(tokens[feature])).sum().backward()
    idle = {id(p) for p in idle_parameters(vit, block, [feature])}
    assert {name for name, p in vit.named_parameters() if p.grad is None} == {
        name for name, p in vit.named_parameters() if id(p) in idle}


def test_ten_tensors_are_idle_for_relations_at_the_last_block():
    vit = build(vit_config())
    idle = {id(p) for p in idle_parameters(vit, 3, ['qkv'])}
    assert {name for name, p in vit.named_parameters() if id(p) in idle} == {
        f'{module}.{kind}' for kind in ('weight', 'bias')
        for module in ('layers.2.attn.proj', 'layers.2.ln2', 'layers.2.ffn.layers.0.0', 'layers.2.ffn.layers.1', 'ln1')}


# ---------------------------------------------------------------- masks
def test_visible_patches_alone_with_their_positions():
    """A masked pass is the pass over a shorter sequence: tested by shuffling which patches hold what."""
    vit = build(vit_config(layers=2))
    images = torch.randn(2, 3, 32, 32)
    mask = torch.ones(2, 4, 4)
    mask[0, 0, 1] = mask[0, 3, 3] = mask[1, 2, 0] = mask[1, 2, 2] = 0
    visible = visible_patches(mask)
    assert visible.tolist() == [[1, 15], [8, 10]]
    tokens, grid = tap_vit(vit, images, 2, ['block'], visible)
    assert tokens['block'].shape == (2, 3, 16) and grid == (4, 4)
    changed = images.clone()
    changed[0, :, :, :8] = 7.  # patches 0, 4, 8, 12: hidden in the first image
    assert torch.equal(tap_vit(vit, changed, 2, ['block'], visible)[0]['block'], tokens['block'])
    changed[0, :, :8, 8:16] += 1.  # patch 1: visible
    assert not torch.equal(tap_vit(vit, changed, 2, ['block'], visible)[0]['block'][0], tokens['block'][0])


def test_an_empty_mask_changes_nothing():
    vit, images = build(vit_config()), torch.randn(2, 3, 32, 32)
    whole, _ = tap_vit(vit, images, 3, FEATURES)
    masked, _ = tap_vit(vit, images, 3, FEATURES, visible_patches(torch.zeros(2, 4, 4)))
    assert all(torch.equal(whole[name], masked[name]) for name in FEATURES)


@pytest.mark.parametrize('mask', [torch.ones(2, 4, 4), torch.stack([torch.zeros(4, 4), torch.eye(4)])])
def test_uneven_masks(mask):
    with pytest.raises(UserError, match='the same number|every image needs the same number, and at least one'):
        visible_patches(mask)


def test_mask_of_a_larger_image():
    with pytest.raises(UserError, match='names patch 24, .* has only 16'):
        tap_vit(build(vit_config()), torch.randn(1, 3, 32, 32), 1, ['qkv'], visible_patches(torch.zeros(1, 5, 5)))


# ---------------------------------------------------------------- what cannot be tapped
def test_other_networks_are_refused():
    distilled = build(dict(type='mmpretrain.DistilledVisionTransformer', arch='deit-t', img_size=32))
    with pytest.raises(UserError, match='The student DistilledVisionTransformer cannot be tapped'):
        check_vit(distilled, 12, 'student')
    with pytest.raises(UserError, match='The teacher ResNet cannot be tapped'):
        check_vit(build(dict(type='mmpretrain.ResNet', depth=18)), 1, 'teacher')


@pytest.mark.parametrize('block', [0, 4])
def test_no_such_block(block):
    with pytest.raises(UserError, match=f'blocks 1 to 3, and no block {block}'):
        check_vit(build(vit_config()), block, 'teacher')
