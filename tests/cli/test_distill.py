"""The whole job in one line: on a few photos, killed in the middle, and the configs that it writes."""
import io
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from processes import CLEAN
from tiny_flow import NORM, contents, forget_runs, student, teacher, write_photos

import mmtinyvit
from mmtinyvit.cli import distill
from mmtinyvit.cli.console import command_module
from mmtinyvit.cli.job import running
from mmtinyvit.cli.job.images import find_images, list_images, refuse_inside
from mmtinyvit.cli.job.networks import find_student, find_teacher
from mmtinyvit.cli.job.planning import match_labels
from mmtinyvit.cli.job.settings import parse_words, read_settings
from mmtinyvit.errors import UserError


def run_here(console, what, shown, command, log, environ, pass_fds=()) -> float:
    """A step in this process: starting one takes longer than the step."""
    words = command[command.index('mmtinyvit') + 1:]
    assert shown == f'mmtinyvit {" ".join(words)}'
    forget_runs()
    command_module(words[0]).main(words[1:])
    return 1.


def run_line(words: list[str], out: Path) -> None:
    """The line, to be killed."""
    running.run_step, running.can_export = run_here, lambda: False
    torch.set_num_threads(1)
    with open(out.parent / 'output.txt', 'w') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    distill.main([*words, f'out={out}', '--yes'])


@pytest.fixture(scope='module')
def line(tmp_path_factory) -> list[str]:
    """Photos of three classes, a timm teacher of three classes from a file, and a small student."""
    folder = tmp_path_factory.mktemp('line')
    write_photos(folder / 'photos', 40)
    torch.manual_seed(0)
    torch.save(timm.create_model('test_vit', num_classes=3).state_dict(), folder / 'teacher.pth')
    Config(dict(model=student())).dump(folder / 'student.py')
    return [f'data={folder}/photos', 'teacher=timm/test_vit', f'weights={folder}/teacher.pth',
            f'student={folder}/student.py', 'epochs=3', 'size=32', 'workers=0', 'batch_size=12']


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(running, 'run_step', run_here)
    monkeypatch.setattr(running, 'can_export', lambda: False)


@pytest.fixture(scope='module')
def done(line, tmp_path_factory) -> Path:
    """A job that nothing interrupted."""
    out = tmp_path_factory.mktemp('done') / 'out'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, 'run_step', run_here)
        patch.setattr(running, 'can_export', lambda: False)
        distill.main([*line, f'out={out}', '--yes'])
    return out


def test_what_is_there_at_the_end(done):
    summary = json.loads((done / 'summary.json').read_text())
    assert summary['images'] == 34 and summary['views'] == 3 and summary['classes'] == 3
    assert 0 <= summary['top1'] <= 100 and summary['onnx'] is None
    model = mmtinyvit.get_model(summary['student'])
    assert model(torch.zeros(1, 3, 32, 32), mode='tensor').shape == (1, 3)
    assert summary['seconds'] == dict(save=1, train=1, test=1, publish=1, report=1)
    assert '<html' in (done / 'report.html').read_text()
    kept = [set((done / f'images/data_{name}.txt').read_text().split()) for name in ('train', 'val')]
    assert not kept[0] & kept[1] and {key.split('/')[0] for key in kept[1]} == {'class_0', 'class_1', 'class_2'}


def test_the_same_line_does_nothing_twice(done, line, here, capsys):
    stamps = {path: path.stat().st_mtime_ns for path in done.rglob('*.pth')}
    distill.main([*line, f'out={done}'])  # nothing to say yes to
    said = capsys.readouterr().out
    assert said.count('done before') == 5 and 'top-1 of the student' in said
    assert stamps == {path: path.stat().st_mtime_ns for path in done.rglob('*.pth')}
    with pytest.raises(UserError, match='holds a job with epochs=3, and this line has epochs=4: go on with the same '
                                        'line, or choose another out.$'):
        distill.main([*(word.replace('epochs=3', 'epochs=4') for word in line), f'out={done}'])


def test_the_same_line_from_another_folder(done, line, here, monkeypatch, capsys):
    photos = Path(line[0].partition('=')[2])
    monkeypatch.chdir(photos.parent)
    distill.main([f'data={photos.name}/', *line[1:], f'out={os.path.relpath(done)}'])
    assert capsys.readouterr().out.count('done before') == 5
    shutil.copytree(done, moved := done.parent / 'moved')
    with pytest.raises(UserError, match=f'holds a job that began in {done}, and its configs name files there: move it'):
        distill.main([*line, f'out={moved}'])
    (moved / 'plan.json').write_text('{"settings": {}')
    with pytest.raises(UserError, match='plan.json is no plan that this version can read: remove it to plan again'):
        distill.main([*line, f'out={moved}'])


def test_killed_in_the_middle_it_goes_on(done, line, here, tmp_path):
    """As if nothing had happened: the same store and the same student, to the last bit."""
    out = tmp_path / 'out'
    process = CLEAN.Process(target=run_line, args=(line, out))
    process.start()
    while process.is_alive() and not (out / 'work/student/epoch_1.pth').exists():
        time.sleep(.002)
    process.kill()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        pytest.fail((tmp_path / 'output.txt').read_text())
    assert not (out / 'summary.json').exists()
    distill.main([*line, f'out={out}'])
    assert contents(out / 'store').keys() == contents(done / 'store').keys()
    ours, theirs = (torch.load(folder / 'work/student/epoch_3.pth', weights_only=False)['state_dict']
                    for folder in (out, done))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_two_at_once_are_refused(tmp_path, line):
    with running.job_lock(tmp_path), pytest.raises(UserError, match='Another process works on'):
        distill.main([*line, f'out={tmp_path}', '--yes'])


def test_its_configs_run_with_the_tools(done, run_tool, tmp_path):
    for name in ('teacher', 'student'):
        shutil.copy(done / f'configs/{name}.py', tmp_path)
    shutil.copy(done / 'configs/data.py', tmp_path)
    ended = run_tool('save_logits', tmp_path / 'teacher.py', '--out', tmp_path / 'store', '--work-dir', tmp_path / 'w')
    assert ended.status == 0 and 'Warning' not in ended.err, ended.err
    stored, again = contents(done / 'store'), contents(tmp_path / 'store')
    assert {name: data for name, data in stored.items() if name.startswith('view')} == {
        name: data for name, data in again.items() if name.startswith('view')}
    ended = run_tool('train', tmp_path / 'student.py', '--work-dir', tmp_path / 'student', '--cfg-options',
                     'train_cfg.max_epochs=1')
    assert ended.status == 0 and 'Warning' not in ended.err and (tmp_path / 'student/epoch_1.pth').exists()


def test_finetuning_without_labels_to_distil_on(line, here, tmp_path, capsys, teacher_checkpoint):
    """A teacher by config, photos without labels, and labels for the end; and the student is a teacher then."""
    photos = tmp_path / 'flat'
    photos.mkdir()
    for path in sorted(Path(line[0].partition('=')[2]).rglob('*.png'))[:12]:
        shutil.copy(path, photos)
    settings = dict(word.split('=', 1) for word in line)
    Config(dict(model=teacher(), data_preprocessor=NORM)).dump(tmp_path / 'teacher.py')
    changed = dict(data=photos, teacher=f'{tmp_path}/teacher.py:{teacher_checkpoint}', weights=None, epochs=1,
                   out=tmp_path / 'out', finetune=settings['data'], finetune_epochs=1)
    summary = mmtinyvit.distill(**settings | changed)
    assert summary['top1'] is None and 0 <= summary['finetuned_top1'] <= 100
    assert 'none: the images have no labels' in capsys.readouterr().out
    cfg = Config.fromfile(tmp_path / 'out/configs/finetune.py')
    assert cfg.model.type == 'ImageClassifier' and cfg.model.head.num_classes == 3
    assert mmtinyvit.get_model(summary['finetuned'])._config.model.head.num_classes == 3
    again = find_teacher(summary['student'], None)
    assert again.side == 32 and again.model['head']['num_classes'] == 12 and again.checkpoint == summary['student']


# ---------------------------------------------------------------- what is asked for
@pytest.mark.parametrize(('words', 'said'), [
    (['photos/'], "'photos/' is not KEY=VALUE: write for example data=photos/."),
    (['data=a', 'data=b'], 'data is given twice: leave one of them out.'),
    (['data=a', 'techer=b', 'out=c'], 'There is no setting techer: did you mean teacher?'),
    (['data=a'], r'teacher and out are missing: add teacher=... out=... \(timm/NAME'),
    (['data=a', 'teacher=b', 'out=c', 'epochs=ten'], 'epochs=ten must be a whole number from 1.'),
    (['data=a', 'teacher=b', 'out=c', 'lr=0'], 'lr=0 must be a number more than 0.'),
    (['data=a', 'teacher=b', 'out=c', 'amp=perhaps'], 'amp=perhaps must be true or false.'),
    (['data=a', 'teacher=b', 'out=c', 'epochs=5', 'views=6'], 'views=6 is more than epochs=5'),
    (['data=a', 'teacher=b', 'out=c', 'size=7'], 'size=7 must be a whole number from 8.'),
])
def test_settings_that_cannot_be(words, said):
    with pytest.raises(UserError, match=f'^{said}'):
        read_settings(parse_words(words))


def test_a_job_is_written_into_a_folder_of_its_own(line, tmp_path):
    with pytest.raises(UserError, match='and not at s3://bucket/out'):
        distill.main([*line, 'out=s3://bucket/out'])
    photos = Path(line[0].partition('=')[2])
    with pytest.raises(UserError, match=f'out={photos}/out lies in data={photos}, whose folders are taken for classes'):
        distill.main([*line, f'out={photos}/out'])
    assert not (photos / 'out').exists()
    refuse_inside(photos.parent, data=str(photos), val='s3://bucket/photos', finetune=None)


@pytest.mark.parametrize(('name', 'weights', 'said'), [
    ('timm/', None, 'teacher=timm/ names no model: write its name behind the slash'),
    ('timm/convnxt_tiny', None, r'timm has no model convnxt_tiny \(did you mean timm/convnext_tiny'),
    ('convnext_tiny', None, r'is no timm/NAME and no CONFIG.py \(did you mean timm/convnext_tiny'),
    ('timm/convnext_tiny.in2k', None, 'timm has no weights in2k for convnext_tiny: correct teacher=, where there are'),
    ('timm/convnext_tiny', 'no.pth', 'weights=no.pth does not exist'),
    ('timm/vit_small_patch14_dinov2.lvd142m', None, 'gives features and no classes'),
    ('no_config.py', None, 'There is no config no_config.py'),
    ('configs/demo/teacher.py:no.pth', None, 'no.pth of teacher=configs/demo/teacher.py does not exist'),
    ('mmtinyvit-21m_in21k-distill-pre_3rdparty', None, 'did you mean mmtinyvit-21m_in21k-distill-pre_3rdparty_in1k'),
    ('no.safetensors', None, 'teacher=no.safetensors does not exist'),
])
def test_teachers_that_cannot_be(name, weights, said):
    with pytest.raises(UserError, match=said):
        find_teacher(name, weights)


def test_the_size_of_a_published_teacher():
    found = find_teacher('mmtinyvit-5m_3rdparty_in1k', None)
    assert (found.side, found.classes) == (224, 'in1k') and found.checkpoint.endswith('tiny_vit_5m_1k.pth')


def test_a_teacher_is_read_from_timm():
    found = find_teacher('timm/vit_large_patch14_clip_224.openai_ft_in12k_in1k', None)
    assert found.side == 224 and found.preprocessor['mean'][0] == pytest.approx(255 * 0.48145466)
    assert found.model['pretrained'] and found.checkpoint is None


@pytest.mark.parametrize(('name', 'said'), [
    ('tinyvit5m', 'did you mean tinyvit-5m'), ('timm/resnet19', 'did you mean timm/resnet18'),
    ('large', 'There is no student large: name tinyvit-5m')])
def test_students_that_cannot_be(name, said):
    with pytest.raises(UserError, match=said):
        find_student(name)


@pytest.mark.parametrize(('classes', 'names', 'tested'), [
    ((), None, (False, None)), (('a', ), None, (False, None)), (('a', 'b', 'c'), None, (True, None)),
    (('cat', 'dog'), ('bird', 'dog', 'cat'), (True, [2, 1])), (('cow', ), ('bird', 'dog', 'cat'), (False, None)),
    (('bird', 'dog', 'cat'), ('bird', 'dog', 'cat'), (True, None))])
def test_labels_that_can_judge(classes, names, tested):
    assert match_labels(classes, names, 3)[:2] == tested


def test_a_test_without_names_says_which_there_may_be():
    assert match_labels(('dog', ), None, 1000)[2] == (
        'none: the labels are of 1 class, and the teacher has 1,000, whose names are not known; classes=in1k, if they '
        'are those, or classes=FILE tells them')


# ---------------------------------------------------------------- images
def show(*progress: object) -> None:
    pass


def test_other_images_for_the_same_folder_are_listed_anew(tmp_path):
    """A plan that nobody said yes to leaves its list behind."""
    for name, count in (('a', 6), ('b', 9)):
        write_photos(tmp_path / name, count)
    index, counts = tmp_path / 'data.index', []
    for root, options in (('a', {}), ('b', {}), ('b', dict(labels='none')), ('a', {})):
        images = list_images(str(tmp_path / root), index, show, **options)
        counts.append((images.count, len(images.classes)))
    assert counts == [(6, 3), (9, 3), (9, 0), (6, 3)]
    stamp = index.stat().st_mtime_ns
    assert list_images(str(tmp_path / 'a'), index, show) == images and index.stat().st_mtime_ns == stamp


def test_an_index_that_is_there_already(tmp_path):
    photos = write_photos(tmp_path / 'photos', 9)
    index = photos / 'images.index'
    command_module('index').main([str(photos)])
    assert find_images(str(index), 'data') == (str(index), None)
    with pytest.raises(UserError, match=f'nobody has decoded, .*: write it again with "mmtinyvit index {photos} --'):
        list_images(str(index), tmp_path / 'data.index', show)
    command_module('index').main([str(photos), '--check'])
    images = list_images(str(index), tmp_path / 'data.index', show)
    assert (images.root, images.index, images.count) == (str(photos), str(index), 9)
    assert images.classes == ('class_0', 'class_1', 'class_2') and not (tmp_path / 'data.index').exists()
    with pytest.raises(UserError, match='labels=none is of a folder, and .* is an image index'):
        list_images(str(index), tmp_path / 'data.index', show, labels='none')
    with pytest.raises(UserError, match='is of other classes than the images to learn from'):
        list_images(str(index), tmp_path / 'data.index', show, ('class_0', ))
    with pytest.raises(UserError, match='layout= and match= are of a folder'):
        find_images(str(index), 'data', match='*.tar')
    with pytest.raises(UserError, match=r'photo_000.png is a file, and no archive \(.zip, .tar\) or image index'):
        find_images(str(photos / 'class_0/photo_000.png'), 'data')


def test_a_teacher_that_is_not_here_says_so_first(line, here, tmp_path, monkeypatch):
    """Without the hub, and before an image is looked at."""
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    words = [word for word in line if not word.startswith(('weights', 'teacher'))]
    with pytest.raises(UserError, match='of the teacher timm/convnext_atto are not on this machine and cannot be '
                                        'fetched .*: go online once, or name a file with weights=FILE'):
        distill.main([*words, 'teacher=timm/convnext_atto', f'out={tmp_path}', '--yes'])
    assert not (tmp_path / 'images').exists() and not (tmp_path / 'plan.json').exists()


def test_a_teacher_without_weights_names_the_setting(line, here, tmp_path):
    norm = dict(mean=[127.5] * 3, std=[127.5] * 3)
    Config(dict(model=student() | dict(data_preprocessor=norm))).dump(tmp_path / 'teacher.py')
    words = [word for word in line if not word.startswith(('weights', 'teacher'))]
    with pytest.raises(UserError, match=r'has no weights for .*\); add them to the line, as .*teacher.py:FILE'):
        distill.main([*words, f'teacher={tmp_path}/teacher.py', f'out={tmp_path}/out', '--yes'])


def test_what_the_index_refuses_is_said_in_settings(line, here, tmp_path, capsys):
    photos = shutil.copytree(line[0].partition('=')[2], tmp_path / 'photos')
    shutil.copy(next(photos.rglob('*.png')), photos / 'loose.png')
    words = [f'data={photos}', *line[1:], f'out={tmp_path}/out', '--plan']
    with pytest.raises(UserError, match='holds images beside its class folders: move them, or choose labels=none.'):
        distill.main(words)
    distill.main([*words, 'labels=none'])
    plan = json.loads((tmp_path / 'out/plan.json').read_text())['plan']
    assert plan['train']['count'] == 41 and plan['val'] is None and (tmp_path / 'out/configs/student.py').exists()
    assert not (tmp_path / 'out/store').exists() and plan['training_hours'] > 0
    capsys.readouterr()
    distill.main([*words, 'labels=none'])
    said = ' '.join(capsys.readouterr().out.replace('│', ' ').split())
    assert 'images 41' in said and ' to save it and ' in said and 'The same line without --plan goes on' in said
    with pytest.raises(UserError, match='with no views, and this line has views=1: .* or remove .*plan.json to plan'):
        distill.main([*words, 'labels=none', 'views=1'])


def test_one_class_is_nothing_to_finetune_on(line, here, tmp_path):
    shutil.copytree(Path(line[0].partition('=')[2], 'class_0'), tmp_path / 'one/class_0')
    with pytest.raises(UserError, match='are all of one class, class_0: add a folder of another'):
        distill.main([*line, f'finetune={tmp_path}/one', f'out={tmp_path}/out', '--yes'])


def test_one_image_left_over_is_no_batch(line, here, tmp_path):
    """The student has a BatchNorm, and is tried out with 16 images at a time."""
    words = [word for word in line if not word.startswith(('data', 'batch_size', 'student'))]
    distill.main([*words, f'data={write_photos(tmp_path / "photos", 17)}', 'labels=none', 'student=tinyvit-5m',
                  f'out={tmp_path}/out', '--plan'])
    assert json.loads((tmp_path / 'out/plan.json').read_text())['plan']['training_hours'] > 0


def test_a_student_that_fails_does_so_first(line, here, tmp_path):
    words = [word for word in line if not word.startswith('student')]
    with pytest.raises(UserError, match=r'A step of the student timm/vit_tiny_patch16_224 with 12 views of 32 x 32 '
                                        r"pixels fails \(Input height \(32\) doesn't match model \(224\)\): choose"):
        distill.main([*words, 'student=timm/vit_tiny_patch16_224', f'out={tmp_path}', '--yes'])
    assert not (tmp_path / 'plan.json').exists() and not (tmp_path / 'store').exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU is here')
def test_devices_that_are_not_here(line, tmp_path):
    with pytest.raises(UserError, match='amp=true needs a GPU, and none is found here'):
        distill.main([*line, f'out={tmp_path}', 'amp=true', '--yes'])


def test_nobody_says_yes(line, here, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'stdin', open(os.devnull))
    with pytest.raises(UserError, match='Nobody is here to say yes to this plan: add --yes.'):
        distill.main([*line, f'out={tmp_path}'])
    assert not (tmp_path / 'plan.json').exists()


@pytest.mark.parametrize('answer', ['n\n', ''])  # '' is Ctrl-D
def test_somebody_says_no(answer, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, 'stdin', Terminal(answer))
    with pytest.raises(UserError, match='Nothing was done: change a setting of the line'):
        distill.confirm()
