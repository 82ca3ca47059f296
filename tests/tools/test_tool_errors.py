"""Bad input to the tools: status 1, one sentence, no traceback, and nothing half-written."""
import gc
import os
import runpy
import shutil
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from tiny_flow import distilling, saving, student, write_photos

from mmtinyvit.store import verify_store


@pytest.fixture
def save_config(tmp_path, photos, teacher_checkpoint):
    """Writes the saving config, changed, to a file; its store is ``tmp_path / 'store'``."""

    def write(root=photos, checkpoint=teacher_checkpoint, **changes):
        saving(root, tmp_path / 'store', tmp_path / 'work', checkpoint, **changes).dump(tmp_path / 'save.py')
        return tmp_path / 'save.py'

    return write


@pytest.fixture
def train_config(tmp_path, photos, saved_store):
    """Writes the training config, changed, to a file."""

    def write(store=saved_store, root=photos, **changes):
        distilling(root, store, tmp_path / 'work', epochs=1, **changes).dump(tmp_path / 'train.py')
        return tmp_path / 'train.py'

    return write


@pytest.fixture
def own_store(tmp_path, saved_store):
    """A copy of the store, to be damaged."""
    return shutil.copytree(saved_store, tmp_path / 'own_store')


# ---------------------------------------------------------------- the command line
@pytest.mark.parametrize('tool, args', [
    ('train', []), ('test', ['epoch_1.pth']), ('save_logits', []), ('browse_views', []), ('publish_model', ['a', 'b']),
])
def test_no_config(run_tool, tool, args):
    assert run_tool(tool, 'configs/nothing.py', *args).sentence.startswith('There is no config configs/nothing.py')


def test_a_config_that_is_none(run_tool, tmp_path):
    (tmp_path / 'broken.py').write_text('model = dict(\n')
    assert 'broken.py cannot be read (SyntaxError' in run_tool('train', tmp_path / 'broken.py').sentence
    (tmp_path / 'broken.py').write_text('model = nothing\n')
    assert 'broken.py cannot be read (' in run_tool('train', tmp_path / 'broken.py').sentence


@pytest.mark.parametrize('tool, args', [('save_logits', []), ('test', []), ('train', ['--resume'])])
def test_no_checkpoint(run_tool, save_config, train_config, tool, args, tmp_path):
    config = save_config() if tool == 'save_logits' else train_config()
    ended = run_tool(tool, config, *args, tmp_path / 'nothing.pth')
    assert ended.sentence == f"There is no checkpoint {tmp_path / 'nothing.pth'}: check the path."


def test_a_config_that_saves_nothing(run_tool, train_config, saved_store):
    config = train_config()
    assert 'does not save logits' in run_tool('save_logits', config).sentence
    assert 'does not save logits' in run_tool('logit_store', 'verify', saved_store, '--teacher', config).sentence


def test_auto_scale_lr_without_a_base(run_tool, train_config):
    assert 'auto_scale_lr = dict(base_batch_size=...)' in run_tool('train', train_config(), '--auto-scale-lr').sentence


@pytest.mark.parametrize('views', ['3', '2:2', 'a:b'])
def test_views_that_are_no_range(run_tool, save_config, views):
    ended = run_tool('save_logits', save_config(), '--views', views)
    assert ended.status == 2 and 'is not A:B with A < B' in ended.err and 'Traceback' not in ended.err


# ---------------------------------------------------------------- data
def test_no_data(run_tool, save_config, train_config, tmp_path):
    for tool, config in (('save_logits', save_config(tmp_path / 'nothing')),
                         ('train', train_config(root=tmp_path / 'nothing'))):
        sentence = run_tool(tool, config, '--cfg-options', 'data_source=elsewhere.').sentence
        assert sentence.endswith(f"needs {tmp_path / 'nothing'}, which does not exist: elsewhere.")


def test_no_samples(run_tool, save_config, train_config, tmp_path):
    (tmp_path / 'empty' / 'class_0').mkdir(parents=True)
    (tmp_path / 'list.txt').write_text('')
    for tool, config, loader in (('save_logits', save_config(tmp_path / 'empty'), 'test_dataloader'),
                                 ('train', train_config(root=tmp_path / 'empty'), 'train_dataloader')):
        assert 'which is empty' in run_tool(tool, config).sentence
        option = f"{loader}.dataset.ann_file={tmp_path / 'list.txt'}"
        assert 'which is empty' in run_tool(tool, config, '--cfg-options', option).sentence
    assert not (tmp_path / 'store').exists()


def test_an_image_that_cannot_be_decoded(run_tool, save_config, train_config, tmp_path):
    """In a worker of the loader, whose exceptions arrive in the text of another."""
    root = write_photos(tmp_path / 'photos', 14)
    (root / 'class_1' / 'photo_010.png').write_bytes(b'no image')
    bad = f"The image {root / 'class_1' / 'photo_010.png'} cannot be decoded"
    assert run_tool('save_logits', save_config(root, workers=1)).sentence.startswith(bad)
    assert not [finding.problem for finding in verify_store(tmp_path / 'store') if finding.problem]
    assert run_tool('train', train_config(root=root, workers=1)).sentence.startswith(bad)


# ---------------------------------------------------------------- teachers and students
def test_a_checkpoint_of_another_model(run_tool, save_config, teacher_checkpoint, tmp_path):
    weights = torch.load(teacher_checkpoint, weights_only=True)
    del weights['state_dict']['head.fc.bias']
    torch.save(weights, tmp_path / 'half.pth')
    sentence = run_tool('save_logits', save_config(), tmp_path / 'half.pth').sentence
    assert 'does not fill ImageClassifier' in sentence and 'head.fc.bias' in sentence
    assert not (tmp_path / 'store').exists()


def test_a_checkpoint_that_was_cut_off(run_tool, save_config, teacher_checkpoint, tmp_path):
    (tmp_path / 'cut.pth').write_bytes(teacher_checkpoint.read_bytes()[:5000])
    assert 'is no checkpoint of tensors' in run_tool('save_logits', save_config(), tmp_path / 'cut.pth').sentence


def test_a_teacher_that_says_nan(run_tool, save_config, teacher_checkpoint, tmp_path):
    weights = torch.load(teacher_checkpoint, weights_only=True)
    weights['state_dict']['head.fc.bias'][0] = float('nan')
    torch.save(weights, tmp_path / 'nan.pth')
    sentence = run_tool('save_logits', save_config(), tmp_path / 'nan.pth').sentence
    assert "'class_0/photo_000.png' in view 0" in sentence and 'NaN' in sentence
    assert not list((tmp_path / 'store').rglob('*shard*'))


def test_a_student_of_other_classes(run_tool, train_config):
    assert 'student has 11 classes' in run_tool('train', train_config(model=student(11))).sentence


# ---------------------------------------------------------------- stores
@pytest.mark.parametrize('kind', ['missing', 'foreign'])
def test_no_store(run_tool, train_config, tmp_path, kind):
    store = tmp_path / 'no_store'
    if kind == 'foreign':
        store.mkdir()
        (store / 'holiday.jpg').touch()
    ended = [run_tool('train', train_config(store)), run_tool('logit_store', 'verify', store)]
    if kind == 'missing':
        ended.append(run_tool('logit_store', 'gallery', store, '--config', train_config(store)))
    for each in ended:
        assert each.sentence.startswith(f'There is no store at {store}')


def test_a_foreign_folder_is_not_made_a_store(run_tool, save_config, tmp_path):
    (tmp_path / 'store').mkdir()
    (tmp_path / 'store' / 'holiday.jpg').touch()
    assert 'is not a store and not empty (it has holiday.jpg)' in run_tool('save_logits', save_config()).sentence
    assert [path.name for path in (tmp_path / 'store').iterdir()] == ['holiday.jpg']


@pytest.mark.parametrize('damage, workers', [('cut off', 0), ('flipped', 1)])
def test_a_damaged_shard(run_tool, train_config, own_store, workers, damage):
    shard = sorted((own_store / 'view-0000').iterdir())[1]
    data = bytearray(shard.read_bytes())
    if damage == 'flipped':
        data[70] ^= 1
    shard.write_bytes(data[:-10] if damage == 'cut off' else data)
    hook = dict(num_canaries=0)  # so that the loader's worker is the first to meet it
    sentence = run_tool('train', train_config(own_store, workers=workers, hook=hook)).sentence
    assert sentence.startswith(str(shard)) and ('cut off' if damage == 'cut off' else 'damaged') in sentence
    assert '1 damaged files' in run_tool('logit_store', 'verify', own_store).sentence


def test_a_newer_format(run_tool, own_store):
    manifest = own_store / 'manifest.json'
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 99'))
    sentence = run_tool('logit_store', 'info', own_store).sentence
    assert 'format 99' in sentence and 'upgrade' in sentence


# ---------------------------------------------------------------- folders that cannot be written to
def test_folders_that_cannot_be_made(run_tool, save_config, train_config, tmp_path):
    """Below a file there is no folder, not even for root."""
    (tmp_path / 'file').touch()
    below = tmp_path / 'file' / 'folder'
    assert str(below) in run_tool('save_logits', save_config(), '--out', below).sentence
    assert f'The work folder {below} cannot be written to' in run_tool('train', train_config(), '--work-dir',
                                                                       below).sentence
    assert 'is no kind of picture' in run_tool('logit_store', 'gallery', '--config', train_config(), '--out', 'a.xyz',
                                               '--rows', 1).sentence
    assert f'Cannot write {below}' in run_tool('logit_store', 'gallery', '--config', train_config(),
                                                               '--out', below, '--rows', 1).sentence


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write to any folder')
def test_a_folder_without_permission(run_tool, save_config, tmp_path):
    (tmp_path / 'locked').mkdir(mode=0o500)
    assert 'locked' in run_tool('save_logits', save_config(), '--out', tmp_path / 'locked' / 'store').sentence


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 40 KiB."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mounted = shutil.which('mount') and subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=40k', 'tmpfs', str(folder)], capture_output=True).returncode == 0
    if not mounted:
        pytest.skip('mounting a small file system needs root')
    yield folder
    gc.collect()  # what an exception's frames hold is still mapped
    subprocess.run(['umount', str(folder)], check=True)


def test_a_full_disk(run_tool, save_config, small_disk):
    sentence = run_tool('save_logits', save_config(), '--out', small_disk / 'store', '--views', '0:50').sentence
    assert 'full' in sentence or 'space' in sentence
    assert list(small_disk.glob('store/view-*/shard*'))  # what was saved before is whole
    assert not [finding.problem for finding in verify_store(small_disk / 'store') if finding.problem]
    assert not [path for path in (small_disk / 'store').rglob('*') if 'tmp' in path.name]


# ---------------------------------------------------------------- a process of its own
def run_alone(command: list[str], output: Path) -> None:
    """A command in a process of its own, with all that it and its workers print in a file."""
    with open(output, 'w') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = command
    sys.stdout, sys.stderr = open(1, 'w', closefd=False), open(2, 'w', closefd=False)
    runpy.run_path(f'tools/{command[0]}.py', run_name='__main__')


def test_an_error_in_a_worker_ends_the_process_with_one_sentence(train_config, tmp_path):
    command = ['train', str(train_config(tmp_path / 'nothing', workers=1))]
    process = get_context('fork').Process(target=run_alone, args=(command, tmp_path / 'output.txt'))
    process.start()
    process.join(120)
    output = (tmp_path / 'output.txt').read_text()
    assert process.exitcode == 1 and 'Traceback' not in output, output
    assert output.splitlines()[-1].startswith(f"Error: There is no store at {tmp_path / 'nothing'}")
