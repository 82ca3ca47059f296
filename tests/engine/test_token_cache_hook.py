"""The teacher's tokens on disk: a real Runner trains twice, and the second time nobody asks the teacher."""
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_flow import NORM, runtime
from tiny_networks import build, tiny_vit_config, vit_config
from torch.nn.modules.module import register_module_forward_pre_hook

from mmtinyvit.errors import UserError
from mmtinyvit.models.selfsup.token_teacher import HEADER, TokenCache, view_bytes

VIEW_BYTES = 24 + 2 * 3 * 17 * 32
CROP = dict(type='RandomResizedCrop', scale=32)
PAIR = dict(type='MultiView', num_views=[1, 1], transforms=[[], [dict(type='ColorJitter', brightness=0.4)]])


@pytest.fixture
def asked():
    """How many images each pass of the teacher embedded: 8 x 8 pixels in 32 channels, of which a student has 16."""
    sizes = []

    def count(module, inputs) -> None:
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (8, 8) and module.out_channels == 32:
            sizes.append(len(inputs[0]))

    handle = register_module_forward_pre_hook(count)
    yield sizes
    handle.remove()


@pytest.fixture
def train(photos, tmp_path, asked):
    """Train on 14 images for three epochs of two views; returns losses, and how many images the teacher was asked."""
    torch.manual_seed(0)
    torch.save(build(vit_config(32, 3, 4)).state_dict(), tmp_path / 'teacher.pth')

    def run(hook: dict | None = None, online: bool = False, crop: dict = CROP, teacher: str = 'teacher.pth',
            student: dict | None = None, losses: list | None = None, epochs: int = 3,
            mask: dict | None = None) -> tuple[list[float], int]:
        asked.clear()
        name = f'run_{len(list(tmp_path.glob("run_*")))}'
        replay = dict(type='mmtinyvit.SeededAugment', transforms=[crop, PAIR, *([mask] if mask else [])],
                      key_root=str(photos))
        pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
        if not online:
            hook = dict(type='mmtinyvit.TokenCacheHook', path=str(tmp_path / 'cache'), num_views=2) | (hook or {})
        model = dict(type='mmtinyvit.TinyMIM', backbone=student or vit_config(16, 2, 2, 4), masked=bool(mask),
                     teacher=dict(backbone=vit_config(32, 3, 4), checkpoint=str(tmp_path / teacher), block=2))
        cfg = runtime(tmp_path / name) | dict(
            experiment_name=name, model=model | (dict(losses=losses) if losses else {}),
            data_preprocessor=dict(NORM, type='SelfSupDataPreprocessor'),
            train_dataloader=dict(batch_size=7, num_workers=0, collate_fn=dict(type='default_collate'),
                                  sampler=dict(type='DefaultSampler', shuffle=True),
                                  dataset=dict(type='CustomDataset', data_prefix=str(photos), pipeline=pipeline)),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)), train_cfg=dict(by_epoch=True, max_epochs=epochs),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1)), custom_hooks=[hook])
        runner = Runner.from_cfg(Config(cfg, format_python_code=False))  # formatting takes seconds a run
        runner.train()
        return runner.message_hub.get_scalar('train/loss').data[0].tolist(), sum(asked)

    return run


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / 'cache').glob('*/*.tokens'))


def test_each_view_is_asked_about_once(train, tmp_path):
    first, asked = train()
    assert asked == 2 * 14 and len(files(tmp_path)) == 28 and len(first) == 6
    assert {file.stat().st_size for file in files(tmp_path)} == {VIEW_BYTES}
    written = [file.read_bytes() for file in files(tmp_path)]
    again, asked = train()
    assert asked == 0 and again == first  # to the bit
    assert [file.read_bytes() for file in files(tmp_path)] == written
    online, asked = train(dict(type='mmtinyvit.EpochClockHook', num_views=2), online=True)
    assert asked == 3 * 14 and online == pytest.approx(first, rel=2e-3) and online != first


def test_what_is_absent_or_damaged_is_asked_about_again(train, tmp_path):
    first, _ = train()
    absent, torn, flipped = files(tmp_path)[:3]
    expected = [file.read_bytes() for file in (absent, torn, flipped)]
    absent.unlink()
    torn.write_bytes(expected[1][:100])
    flipped.write_bytes(expected[2][:-1] + bytes([expected[2][-1] ^ 1]))
    again, asked = train()
    assert asked == 3 and again == first
    assert [file.read_bytes() for file in (absent, torn, flipped)] == expected


def test_a_tiny_vit_and_masked_networks(train, tmp_path):
    _, asked = train(student=tiny_vit_config())
    assert asked == 28
    mask = dict(type='SimMIMMaskGenerator', input_size=32, mask_patch_size=8, model_patch_size=8, mask_ratio=0.5)
    with pytest.raises(UserError, match='has masked False, and this training True'):
        train(mask=mask)
    first, asked = train(dict(path=str(tmp_path / 'masked')), mask=mask)
    again, none = train(dict(path=str(tmp_path / 'masked')), mask=mask)
    assert (asked, none) == (28, 0) and first == again


# ---------------------------------------------------------------- refused
def test_other_pixels_are_refused(train):
    train()
    with pytest.raises(UserError, match='was made from other pixels'):
        train(crop=CROP | dict(crop_ratio_range=(0.5, 0.6)))


def test_another_teacher_is_refused(train, tmp_path):
    train(epochs=1)
    torch.manual_seed(1)
    torch.save(build(vit_config(32, 3, 4)).state_dict(), tmp_path / 'other.pth')
    with pytest.raises(UserError, match='has teacher [0-9a-f]{64}, and this training'):
        train(teacher='other.pth')


def test_the_size_is_told_and_held(train, tmp_path):
    total = 2 * 14 * VIEW_BYTES
    with pytest.raises(UserError, match='0.00 MB for each of 2 views of 14 images, 0.0 GB .* more than max_gb=1e-06'):
        train(dict(max_gb=1e-6))
    assert not (tmp_path / 'cache').exists() and total < 1e5
    train(epochs=1)
    log = next(Path(tmp_path).glob('run_1/*/*.log')).read_text()
    assert "The teacher's tokens take 0.00 MB for each of 1 views of 14 images" in log


def test_features_are_not_kept(train):
    loss = dict(type='mmtinyvit.FeatureDistillationLoss', student_dims=16, teacher_dims=32)
    with pytest.raises(UserError, match='keeps the relations'):
        train(losses=[loss])
    with pytest.raises(UserError, match='num_views=0'):
        train(dict(num_views=0))


# ---------------------------------------------------------------- the files
def test_bytes_of_a_file(tmp_path):
    cache = TokenCache(tmp_path / 'cache', dict(teacher='a', block=1, shape=(3, 1, 2, 2)))
    tokens = torch.arange(12.).view(3, 1, 1, 2, 2)
    cache.write([0x1234], torch.tensor([[0.5, 1.0]]), tokens)
    content = (tmp_path / 'cache/34/0000000000001234.tokens').read_bytes()
    assert content[:8] == b'MTVTOKEN' and content[12:24] == bytes.fromhex('0000003f 0000803f 00000000')
    assert content[24:] == tokens.half().numpy().tobytes() and len(content) == view_bytes((3, 1, 2, 2))
    assert HEADER.size == 24 and json.loads((tmp_path / 'cache/tokens.json').read_text())['shape'] == [3, 1, 2, 2]
    there, absent = cache.read([0x1234, 0x1235], torch.tensor([[0.5004, 1.0]] * 2))
    assert torch.equal(there, tokens[:, 0].half()) and absent is None


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(UserError, match='cannot be used'):
        TokenCache(tmp_path / 'file', dict(shape=(3, 1, 2, 2)))
    cache = TokenCache(tmp_path / 'cache', dict(shape=(3, 1, 2, 2)))
    (tmp_path / 'cache/34').write_text('in the way')
    with pytest.raises(UserError, match='cannot be written .*: make room'):
        cache.write([0x1234], torch.zeros(1, 2), torch.zeros(3, 1, 1, 2, 2))
    assert not list(tmp_path.glob('cache/.*'))
