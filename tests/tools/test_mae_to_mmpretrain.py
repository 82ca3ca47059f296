"""The converter: what it writes computes what timm computes, in both directions."""
import pytest
import timm
import torch
from mmengine.registry import MODELS, init_default_scope
from tiny_networks import build, vit_config


def timm_vit() -> timm.models.VisionTransformer:
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=16, depth=3, num_heads=2, mlp_ratio=2,
                                          num_classes=0)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2)
    return model.eval()


def test_to_mmpretrain_and_back_to_timm(run_tool, tmp_path):
    theirs, images = timm_vit(), torch.randn(2, 3, 32, 32)
    torch.save(dict(model=theirs.state_dict() | dict(mask_token=torch.zeros(1, 1, 8))), tmp_path / 'mae.pth')
    ended = run_tool('model_converters/mae_to_mmpretrain', tmp_path / 'mae.pth', tmp_path / 'ours.pth')
    assert ended.status == 0 and 'mmpretrain' in ended.out
    init_default_scope('mmpretrain')
    classifier = MODELS.build(dict(type='ImageClassifier', backbone=vit_config(out_type='raw')))
    classifier.load_state_dict(torch.load(tmp_path / 'ours.pth', weights_only=True))
    classifier.eval()
    with torch.no_grad():
        assert torch.allclose(classifier.extract_feat(images)[0], theirs.forward_features(images), atol=1e-5)
    assert run_tool('model_converters/mae_to_mmpretrain', tmp_path / 'ours.pth', tmp_path / 'timm.pth', '--to',
                    'timm').status == 0
    back = torch.load(tmp_path / 'timm.pth', weights_only=True)
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[key], value) for key, value in theirs.state_dict().items())


@pytest.mark.parametrize(('source', 'said'), [('absent.pth', 'There is no checkpoint'),
                                              ('text.pth', 'is no checkpoint of tensors'),
                                              ('resnet.pth', 'the tensor conv1.weight is not known')])
def test_sentences(source, said, run_tool, tmp_path):
    (tmp_path / 'text.pth').write_text('no weights')
    torch.save(build(dict(type='mmpretrain.ResNet', depth=18)).state_dict(), tmp_path / 'resnet.pth')
    ended = run_tool('model_converters/mae_to_mmpretrain', tmp_path / source, tmp_path / 'out.pth')
    assert said in ended.sentence and not (tmp_path / 'out.pth').exists()


def test_the_source_is_not_overwritten(run_tool, tmp_path):
    torch.save(timm_vit().state_dict(), tmp_path / 'vit.pth')
    ended = run_tool('model_converters/mae_to_mmpretrain', tmp_path / 'vit.pth', tmp_path / 'vit.pth')
    assert 'is the source' in ended.sentence
    ended = run_tool('model_converters/mae_to_mmpretrain', tmp_path / 'vit.pth', tmp_path / 'vit.pth/out.pth')
    assert 'Cannot write' in ended.sentence
