"""Every segmentation recipe in small: weights come in, one step reaches every parameter, and the photos are judged."""
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from tiny_segmentation import segmenter

from mmtinyvit.errors import UserError
from mmtinyvit.paths import config_root

NAMES = sorted(path.stem for path in (config_root() / 'segmentation').glob('*.py'))
EMBED_DIMS = {'5m': [64, 128, 160, 320], '11m': [64, 128, 256, 448], '21m': [96, 192, 384, 576]}
VIT_DIMS = dict(tiny=192, small=384, base=768)


def test_every_combination_is_there():
    wanted = {f'semantic_fpn_tiny_vit_{size}_80k_ade20k' for size in EMBED_DIMS}
    wanted |= {f'upernet_tiny_vit_{size}{windows}_160k_ade20k' for size in EMBED_DIMS
               for windows in ('', '_windows512')}
    assert set(NAMES) == wanted | {f'upernet_tinymim_{size}_160k_ade20k' for size in VIT_DIMS}


@pytest.mark.parametrize('name', NAMES)
def test_settings(name):
    cfg = Config.fromfile(config_root() / f'segmentation/{name}.py')
    size = name.split('_')[-3 if 'windows512' not in name else -4]
    backbone, heads = cfg.model.backbone, [cfg.model.decode_head, *filter(None, [cfg.model.get('auxiliary_head')])]
    if 'tinymim' in name:
        assert backbone.type == 'mmtinyvit.DenseViT' and backbone.arch == f'deit-{size}'
        assert cfg.model.neck.embed_dim == VIT_DIMS[size]
        assert all(dim == VIT_DIMS[size] for head in heads for dim in torch.tensor(head.in_channels).view(-1))
        assert (backbone.out_indices, cfg.model.test_cfg) == (
            (3, 5, 7, 11), dict(mode='slide', crop_size=(512, 512), stride=(341, 341)))
    else:
        assert backbone.type == 'mmtinyvit.TinyViT' and backbone.arch == size and backbone.norm_eval
        assert backbone.get('window_sizes') == ((16, 16, 32, 16) if 'windows512' in name else None)
        first = cfg.model.neck if name.startswith('semantic_fpn') else heads[0]
        assert first.in_channels == EMBED_DIMS[size]
        assert len(heads) == 1 or heads[1].in_channels == EMBED_DIMS[size][2]
    assert all(head.num_classes == 150 and head.norm_cfg.type == 'BN' for head in heads) and cfg.sync_bn == 'torch'
    steps = 80000 if '80k' in name else 160000
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == steps
    assert cfg.train_dataloader.batch_size == 2 and cfg.auto_scale_lr == dict(enable=True, base_batch_size=16)
    assert cfg.optim_wrapper.optimizer.lr == 1e-4 and cfg.optim_wrapper.type == 'OptimWrapper'
    if 'upernet' in name:
        decay = .75 if size in ('small', 'base') else .8
        assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == decay and cfg.param_scheduler[0].end == 1500


@pytest.mark.parametrize('name', NAMES)
def test_one_step_and_a_test(name, rectangles, classifier, vit, tmp_path):
    checkpoint = vit if 'tinymim' in name else classifier
    cfg = segmenter(f'segmentation/{name}', rectangles, tmp_path, checkpoint=checkpoint)
    cfg.train_cfg.update(max_iters=1, val_interval=1)
    cfg.default_hooks.checkpoint = None
    cfg.val_dataloader.dataset.indices = 1
    init_default_scope('mmseg')
    runner = Runner.from_cfg(cfg)
    runner.model.init_weights()
    given = torch.load(checkpoint, weights_only=True)['state_dict']
    filled = runner.model.backbone.state_dict()
    same = [key for key, value in filled.items() if torch.equal(value, given.get(f'backbone.{key}', torch.zeros(0)))]
    others = {key for key in filled if key not in same}
    if 'tinymim' in name:
        assert others == {'pos_embed', *(key for key in filled if 'gamma' in key or 'relative_position' in key)}
    else:
        interpolated = {key for key in filled if key.endswith('attention_biases')} if 'windows512' in name else set()
        assert others == interpolated
    reached = set()
    for key, parameter in runner.model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, key=key: reached.add(key))
    runner.train()
    assert torch.isfinite(torch.tensor(runner.message_hub.get_scalar('train/loss').current()))
    # a parameter that is left out would stop training on several GPUs
    assert reached == {key for key, p in runner.model.named_parameters() if p.requires_grad}
    assert 0 <= runner.message_hub.get_scalar('val/mIoU').current() <= 100


def test_layers_of_a_vit_have_rates_of_their_own(rectangles, vit, tmp_path):
    cfg = segmenter('segmentation/upernet_tinymim_base_160k_ade20k', rectangles, tmp_path, checkpoint=vit)
    init_default_scope('mmseg')
    runner = Runner.from_cfg(cfg)
    groups = runner.build_optim_wrapper(cfg.optim_wrapper).optimizer.param_groups
    rates = {name: group['lr'] for group in groups for name in group['param_names']}
    decays = {name: group['weight_decay'] for group in groups for name in group['param_names']}
    for name, depth in (('backbone.patch_embed.projection.weight', 0), ('backbone.pos_embed', 0),
                        ('backbone.layers.0.attn.qkv.weight', 1), ('backbone.layers.3.gamma_1', 4),
                        ('neck.upsample_4x.0.weight', 5), ('decode_head.conv_seg.weight', 5)):
        assert rates[name] == pytest.approx(1e-4 * .75**(5 - depth)), name
    assert decays['backbone.layers.3.gamma_1'] == decays['decode_head.conv_seg.bias'] == 0
    assert decays['backbone.layers.3.attn.relative_position_bias_table'] == .05


def test_a_checkpoint_of_another_size_stops_training(rectangles, classifier, tmp_path):
    cfg = segmenter('segmentation/semantic_fpn_tiny_vit_5m_80k_ade20k', rectangles, tmp_path, checkpoint=classifier)
    cfg.model.backbone.arch, cfg.model.neck.in_channels = '5m', EMBED_DIMS['5m']
    init_default_scope('mmseg')
    with pytest.raises(UserError, match=r'does not fill TinyViT: of \d+ tensors \d+ are missing'):
        Runner.from_cfg(cfg).train()
    assert not list(tmp_path.glob('*.pth'))
