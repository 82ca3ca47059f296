"""The command-line tools, as their users run them, in one process."""
import json
import shutil

import pytest
import torch
from mmengine.config import Config
from PIL import Image
from tiny_flow import CLASSES, contents, distilling, photo_dataset, recorded, saving

from mmtinyvit.store import LogitStore

MAPPED = dict(type='mmtinyvit.MappedAccuracy', num_classes=CLASSES, index=[4, 0, 11], topk=1)  # of three folders


@pytest.fixture
def save_config(tmp_path, photos, teacher_checkpoint):
    """A file with the saving config; its store is ``tmp_path / 'store'``."""
    saving(photos, tmp_path / 'store', tmp_path / 'work').dump(tmp_path / 'save.py')
    return tmp_path / 'save.py'


@pytest.fixture
def train_config(tmp_path, photos, saved_store):
    """A file with the student's training config, with validation and a scaled learning rate."""
    cfg = distilling(photos, saved_store, tmp_path / 'work', batch_size=7)
    pipeline = [dict(type='mmtinyvit.LoadImage'), dict(type='Resize', scale=32), dict(type='PackInputs')]
    loader = dict(batch_size=7, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                  collate_fn=dict(type='default_collate'), dataset=photo_dataset(photos) | dict(pipeline=pipeline))
    cfg.merge_from_dict(dict(val_dataloader=loader, val_cfg=dict(), val_evaluator=dict(MAPPED),
                             test_dataloader=loader, test_cfg=dict(), test_evaluator=dict(MAPPED),
                             auto_scale_lr=dict(base_batch_size=14)))
    cfg.dump(tmp_path / 'train.py')
    return tmp_path / 'train.py'


def test_save_logits(run_tool, save_config, teacher_checkpoint, tmp_path, saved_store):
    ended = run_tool('save_logits', save_config, teacher_checkpoint, '--out', tmp_path / 'other', '--views', '0:2')
    assert ended.status == 0, ended.err
    assert contents(tmp_path / 'other') == contents(saved_store) and not (tmp_path / 'store').exists()
    facts = dict(line.strip('│ ').split(' │ ') for line in ended.out.splitlines() if '│' in line)
    facts = {name.strip(): value for name, value in facts.items()}
    assert (facts['store'], facts['views']) == (str(tmp_path / 'other'), '0:2')
    assert facts['saved here'] == '28 views of images'
    assert len(ended.out.splitlines()) < 25, 'the log file has the config, the environment and the hooks'
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert 'Hooks will be executed' in log and 'System environment' in log and "type='mmtinyvit.SaveLogitsLoop'" in log


def test_save_logits_amp(run_tool, save_config, teacher_checkpoint, tmp_path):
    assert run_tool('save_logits', save_config, teacher_checkpoint, '--amp', '--views', '1:2').status == 0
    store = LogitStore(tmp_path / 'store')
    assert store.views == [1] and store.manifest.fingerprints['teacher']['precision'] == 'autocast'
    ended = run_tool('logit_store', 'verify', tmp_path / 'store', '--teacher', save_config, '--checkpoint',
                     teacher_checkpoint)
    assert ended.status == 0, ended.err


def test_train_resume_and_test(run_tool, train_config, tmp_path):
    work = tmp_path / 'other'
    groups = 'optim_wrapper.optimizer.weight_decay=1e-4', 'optim_wrapper.paramwise_cfg.bias_decay_mult=0.'
    ended = run_tool('train', train_config, '--work-dir', work, '--cfg-options', 'train_cfg.max_epochs=1',
                     'optim_wrapper.optimizer.lr=0.02', *groups, '--auto-scale-lr')
    assert ended.status == 0, ended.err
    log = next(work.glob('*/*.log')).read_text()
    assert 'paramwise_options' in log and 'Hooks will be executed' in log
    assert 'paramwise_options' not in ended.out and 'Hooks will be executed' not in ended.out
    assert 'accuracy/top1' in ended.out and 'LR is set based on batch size of 14' in ended.out
    first = torch.load(work / 'epoch_1.pth', weights_only=False)
    assert first['optimizer']['param_groups'][0]['lr'] == pytest.approx(0.01)

    ended = run_tool('train', train_config, '--work-dir', work, '--resume', '--no-validate', '--cfg-options',
                     *groups)
    assert ended.status == 0, ended.err
    assert 'accuracy/top1' not in ended.out
    assert [epoch for epoch, *_ in recorded(work)] == [0] * 14 + [1] * 14

    ended = run_tool('test', train_config, work / 'epoch_2.pth', '--out', tmp_path / 'metrics' / 'top.json')
    assert ended.status == 0, ended.err
    metrics = json.loads((tmp_path / 'metrics' / 'top.json').read_text())
    assert 'accuracy/top1' in metrics

    # the student is a plain classifier: a config that knows nothing of the distillation tests the same checkpoint
    cfg = Config.fromfile(train_config)
    cfg.model.type, cfg.custom_hooks = 'ImageClassifier', []
    cfg.dump(tmp_path / 'plain.py')
    ended = run_tool('test', tmp_path / 'plain.py', work / 'epoch_2.pth', '--out', tmp_path / 'plain.json')
    assert ended.status == 0 and 'do not match exactly' not in ended.out
    assert json.loads((tmp_path / 'plain.json').read_text()) == metrics


# ---------------------------------------------------------------- verify
def verify(run_tool, store, config, checkpoint, *args):
    return run_tool('logit_store', 'verify', store, '--teacher', config, '--checkpoint', checkpoint, *args)


def test_verify_with_the_teacher(run_tool, save_config, teacher_checkpoint, saved_store):
    """The other name of the command runs the same code, and says which name to use."""
    ended = run_tool('check_logits', saved_store, '--teacher', save_config, '--checkpoint', teacher_checkpoint,
                     '--records', 12)
    assert ended.status == 0, ended.err
    assert 'top 5 of 12' in ended.out and 'mean KL' in ended.out and '12' in ended.out.split('asked again')[1]
    assert ended.err.startswith('tools/check_logits.py is another name of tools/logit_store.py verify')


def test_verify_notices_a_teacher_that_drifted(run_tool, save_config, teacher_checkpoint, saved_store, tmp_path):
    """A store that says it comes from this teacher, but does not."""
    weights = torch.load(teacher_checkpoint, weights_only=True)
    weights['state_dict']['head.fc.bias'].add_(torch.randn(CLASSES))
    torch.save(weights, tmp_path / 'other.pth')
    assert 'teacher.weights_hash' in verify(run_tool, saved_store, save_config, tmp_path / 'other.pth').sentence


def test_verify_with_a_tolerance(run_tool, save_config, teacher_checkpoint, saved_store):
    ended = verify(run_tool, saved_store, save_config, teacher_checkpoint, '--tolerance', '1e-12', '--json')
    assert ended.sentence.startswith(f'The teacher differs from {saved_store} by ')
    compared = json.loads(ended.out)['teacher']
    assert compared['records'] == 28 and 0 < compared['mean_kl'] < 1e-3


@pytest.mark.parametrize('file, where', [('view-0001/shard', 70), ('manifest.json', 100), ('samples.txt', 10)])
def test_verify_finds_a_flipped_byte(run_tool, saved_store, tmp_path, file, where):
    store = shutil.copytree(saved_store, tmp_path / 'copy')
    path = next(path for path in sorted(store.rglob('*')) if str(path.relative_to(store)).startswith(file))
    data = bytearray(path.read_bytes())
    data[where] ^= 4
    path.write_bytes(data)
    assert run_tool('logit_store', 'verify', saved_store).status == 0
    ended = run_tool('logit_store', 'verify', store)
    assert ended.sentence and path.name in ended.out + ended.err


def test_browse_views(run_tool, train_config, tmp_path):
    """The other name of gallery."""
    picture = tmp_path / 'pictures' / 'views.png'
    ended = run_tool('browse_views', train_config, '--out', picture, '--samples', 3, '--views', '0:9')
    assert ended.status == 0, ended.err
    assert ended.err.startswith('tools/browse_views.py is another name of tools/logit_store.py gallery')
    width, height = Image.open(picture).size
    assert width > 400 and height > 400
    assert 'has no view among 5:9 (it has 0-1)' in run_tool('browse_views', train_config, '--views', '5:9').sentence


@pytest.mark.parametrize('hardest', [(), ('--hardest', '--label-index', 4, 0, 11)])
def test_gallery_of_a_named_store_with_the_config_of_a_student(run_tool, train_config, saved_store, tmp_path, hardest):
    cfg = Config.fromfile(train_config)
    cfg.store = str(saved_store)
    cfg.train_dataloader.dataset.pipeline[2] = dict(type='mmtinyvit.LoadTeacherLogits')
    cfg.dump(tmp_path / 'student.py')
    ended = run_tool('logit_store', 'gallery', saved_store, '--config', tmp_path / 'student.py', '--rows', 2, *hardest,
                     '--out', tmp_path / 'views.png')
    assert ended.status == 0, ended.err


@pytest.mark.parametrize('kind', ['saves', 'distils', 'labels'])
def test_views_can_be_browsed_before_anything_is_saved(run_tool, save_config, train_config, tmp_path, kind):
    cfg = Config.fromfile(train_config)
    pipeline = cfg.train_dataloader.dataset.pipeline
    reader = next(step for step in pipeline if step.type == 'mmtinyvit.LoadTeacherLogits')
    reader.store = str(tmp_path / 'store')
    if kind == 'labels':
        pipeline.remove(reader)
    cfg.dump(tmp_path / 'later.py')
    config = save_config if kind == 'saves' else tmp_path / 'later.py'
    ended = run_tool('browse_views', config, '--out', tmp_path / 'views.png', '--samples', 2, '--views', '3:5')
    assert ended.status == 0, ended.err
    assert (tmp_path / 'views.png').exists() and not (tmp_path / 'store').exists()
    at = '' if kind == 'labels' else f' at {tmp_path / "store"}'
    assert f'none yet{at}, so these' in ' '.join(ended.out.replace('│', ' ').split()) and '2 (3-4)' in ended.out
    named = 'logit_store', 'gallery', '--config', config
    assert f'has no store{at} yet' in run_tool(*named, '--hardest').sentence
    assert 'There is no store at' in run_tool('logit_store', 'gallery', tmp_path / 'store', '--config', config).sentence
