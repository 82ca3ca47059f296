"""Classes keep their names from the teacher to the student's file, and lists that meet are compared by name."""
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_flow import contents, distilling, photo_dataset, runtime, saving, student

from mmtinyvit.apis.models import classes_of
from mmtinyvit.apis.publish import publish
from mmtinyvit.engine.hooks import ClassNamesHook
from mmtinyvit.errors import UserError
from mmtinyvit.models.weights import read_checkpoint
from mmtinyvit.store import LogitStore

TEACHERS = ('a', 'b', 'class_2', 'c', 'Class 0', 'd', 'e', 'f', 'g', 'h', 'class_1', 'i')
INDEX = [4, 10, 2]  # of class_0, class_1 and class_2


@pytest.fixture(scope='module')
def named_store(photos, teacher_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp('named')
    Runner.from_cfg(saving(photos, folder / 'store', folder / 'work', teacher_checkpoint, classes=TEACHERS)).test()
    return folder / 'store'


def loader(root, **dataset) -> dict:
    """A test on the photos, in class folders."""
    pipeline = [dict(type='mmtinyvit.LoadImage'), dict(type='Resize', scale=(32, 32)), dict(type='PackInputs')]
    return dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='default_collate'),
                dataset=photo_dataset(root) | dict(pipeline=pipeline) | dataset)


def validating(cfg: Config, root, **evaluator) -> Config:
    cfg.update(val_dataloader=loader(root), val_cfg=dict(), val_evaluator=dict(type='Accuracy', topk=1) | evaluator)
    cfg.default_hooks.class_names = dict(type='mmtinyvit.ClassNamesHook')  # as the tools do
    return cfg


def trying(root, checkpoint, work_dir, num_classes: int = 12, **evaluator) -> Config:
    return Config(runtime(work_dir) | dict(
        model=student(num_classes) | dict(type='ImageClassifier'), load_from=str(checkpoint),
        test_dataloader=loader(root), test_cfg=dict(), test_evaluator=dict(type='Accuracy', topk=1) | evaluator,
        default_hooks=dict(class_names=dict(type='mmtinyvit.ClassNamesHook'))), format_python_code=False)


def learning(root, val, work_dir, num_classes: int = 3) -> Config:
    """A training with labels alone."""
    cfg = distilling(root, None, work_dir, epochs=1, model=student(num_classes) | dict(type='ImageClassifier'))
    cfg.custom_hooks = [dict(type='mmtinyvit.EpochClockHook')]
    return validating(cfg, val)


def log_of(work_dir) -> str:
    return ''.join(path.read_text() for path in sorted(work_dir.glob('*/*.log')))


def labels_of(dataset) -> dict[str, int]:
    """Label of each folder, as it leaves the pipeline."""
    return {dataset.get_data_info(i)['img_path'].split('/')[-2]: int(dataset[i]['data_samples'].gt_label)
            for i in range(len(dataset))}


# ---------------------------------------------------------------- teacher to store
def test_the_store_keeps_the_names_of_its_teacher(photos, teacher_checkpoint, saved_store, tmp_path, run_tool):
    """Those of the checkpoint. The records and the identity are the same as without."""
    weights = torch.load(teacher_checkpoint, weights_only=True)
    torch.save(weights | dict(meta=dict(dataset_meta=dict(classes=TEACHERS))), tmp_path / 'named.pth')
    saving(photos, tmp_path / 'store', tmp_path / 'work').dump(tmp_path / 'save.py')
    assert run_tool('save_logits', tmp_path / 'save.py', tmp_path / 'named.pth').status == 0
    named, unnamed = LogitStore(tmp_path / 'store'), LogitStore(saved_store)
    assert named.manifest.class_names == TEACHERS and unnamed.manifest.class_names is None
    assert named.manifest.store_id == unnamed.manifest.store_id
    assert {name: data for name, data in contents(tmp_path / 'store').items() if name != 'manifest.json'} == {
        name: data for name, data in contents(saved_store).items() if name != 'manifest.json'}
    shown = run_tool('logit_store', 'show', tmp_path / 'store', named.key(0), '--top', 12)
    assert 'class_1' in shown.out + 'class_1' * (10 not in named.read(0, [named.key(0)]).index)
    assert 'a, b, class_2, ...' in run_tool('logit_store', 'info', tmp_path / 'store').out
    ended = run_tool('save_logits', tmp_path / 'save.py', tmp_path / 'named.pth', '--out', tmp_path / 'other',
                     '--cfg-options', f'test_cfg.classes={",".join(TEACHERS[::-1])}')
    assert 'by its checkpoint, and of 12 classes (i, class_1, h, ...) by classes=' in ended.sentence


def test_names_of_another_number(photos, teacher_checkpoint, tmp_path):
    with pytest.raises(UserError, match='The teacher has 12 classes, and classes= of the saving names 1,000 classes'):
        Runner.from_cfg(saving(photos, tmp_path / 'store', tmp_path, teacher_checkpoint, classes='in1k')).test()


def test_a_store_without_names_says_so(photos, teacher_checkpoint, tmp_path):
    """Once where nobody names the classes, and where they are named too late; never where the store has names."""
    def log_of(place: str, views: tuple[int, int], **settings) -> str:
        work = tmp_path / f'work_{place}_{views[1]}'
        cfg = saving(photos, tmp_path / place, work, teacher_checkpoint, views=views, **settings)
        cfg.experiment_name = work.name
        Runner.from_cfg(cfg).test()
        return next(work.glob('*/*.log')).read_text()

    first, late = log_of('nameless', (0, 1)), log_of('nameless', (0, 2), classes=TEACHERS)
    assert first.count(f'The store {tmp_path}/nameless has no names of its 12 classes, ') == 1
    assert "set classes= of the saving to a label layout or a file with a name a line, such as classes='c" in first
    assert late.count(f'The store {tmp_path}/nameless was begun without names of its 12 classes, and stays') == 1
    assert LogitStore(tmp_path / 'nameless').manifest.class_names is None
    assert 'names of its' not in log_of('named', (0, 1), classes=TEACHERS) + log_of('named', (0, 2))


def test_stores_of_other_classes_are_not_mixed(photos, named_store, teacher_checkpoint, tmp_path):
    Runner.from_cfg(saving(photos, tmp_path / 'other', tmp_path / 'save', teacher_checkpoint,
                           classes=TEACHERS[::-1])).test()
    cfg = distilling(photos, named_store, tmp_path / 'work')
    cfg.train_dataloader.dataset.pipeline[2].store = [str(named_store), str(tmp_path / 'other')]
    with pytest.raises(UserError, match=r'number 0 is a there and i here: combine teachers of the same classes'):
        Runner.from_cfg(cfg).train()


# ---------------------------------------------------------------- store to student
def test_labels_become_the_teachers_by_name(photos, named_store, tmp_path):
    runner = Runner.from_cfg(distilling(photos, named_store, tmp_path, epochs=1, model=student(label_weight=.5)))
    runner.train()
    assert labels_of(runner.train_dataloader.dataset) == dict(zip(('class_0', 'class_1', 'class_2'), INDEX,
                                                                  strict=True))
    assert 'class_0: 4 (Class 0), class_1: 10 (class_1), class_2: 2 (class_2)' in log_of(tmp_path)


def test_labels_that_the_teacher_does_not_know_by_name(photos, named_store, tmp_path):
    root = shutil.copytree(photos, tmp_path / 'photos')
    (root / 'class_1').rename(root / 'my_cat')
    with pytest.raises(UserError, match=r'the teacher has 12 classes \(a, b, class_2, ...\), and the images of the '
                       r'training are of 3 classes \(class_0, class_2, my_cat\); of the latter 1 class \(my_cat\)'):
        Runner.from_cfg(distilling(root, named_store, tmp_path, model=student(label_weight=.5))).train()


def test_the_checkpoint_has_the_names_of_the_teacher(photos, named_store, saved_store, tmp_path):
    """And not those of the folders; it resumes without a warning; so has what is published."""
    for number, (store, names) in enumerate(((named_store, TEACHERS), (saved_store, None))):
        work = tmp_path / str(number)
        Runner.from_cfg(distilling(photos, store, work, epochs=1)).train()
        saved = torch.load(work / 'epoch_1.pth', weights_only=False)
        assert saved['meta']['dataset_meta'] == dict(classes=names)
        meta = read_checkpoint(work / 'epoch_1.pth')[1]
        assert classes_of(meta, student()) == (names and list(names))
        cfg = distilling(photos, store, work / 'again')
        cfg.update(resume=True, load_from=str(work / 'epoch_1.pth'))
        cfg.default_hooks.class_names = dict(type='mmtinyvit.ClassNamesHook')
        cfg.experiment_name = f'again{number}'
        Runner.from_cfg(cfg).train()
        assert 'metainfo from the resumed checkpoint' not in log_of(work / 'again')
    cfg = distilling(photos, named_store, tmp_path)
    cfg.test_dataloader = loader(photos)
    cfg.dump(tmp_path / 'student.py')
    written = publish(Config.fromfile(tmp_path / 'student.py'), str(tmp_path / '0/epoch_1.pth'), tmp_path / 'net.pth')
    assert written.meta['dataset_meta']['classes'] == list(TEACHERS)


def test_an_old_checkpoint_of_a_student_does_not_say_what_its_outputs_are():
    old = dict(dataset_meta=dict(classes=['x', 'y', 'z']), teacher_store=dict(path='p', store_id='00'))
    assert classes_of(old, student(3)) is None
    assert classes_of(old | dict(teacher_store=dict(classes=['a', 'b', 'c'])), student(3)) == ['a', 'b', 'c']


# ---------------------------------------------------------------- student to test
def by_hand(runner) -> float:
    """Accuracy over all outputs, with the labels of INDEX."""
    dataset, right = runner.test_dataloader.dataset, []
    for i in range(len(dataset)):
        inputs = runner.model.data_preprocessor(dict(inputs=dataset[i]['inputs'][None]))['inputs']
        right.append(int(runner.model(inputs).argmax()) == INDEX[dataset.get_data_info(i)['gt_label']])
    return 100 * sum(right) / len(right)


def test_a_distilled_student_on_the_folders(photos, named_store, saved_store, tmp_path):
    """The default evaluator compares with the teacher's classes, or says that it cannot."""
    work = tmp_path / 'train'
    Runner.from_cfg(validating(distilling(photos, named_store, work, epochs=1), photos)).train()
    state = torch.load(work / 'epoch_1.pth', weights_only=False)
    state['state_dict']['head.fc.bias'][2] += 100  # class_2, which is 5 of the 14 photos
    torch.save(state, tmp_path / 'sure.pth')
    runner = Runner.from_cfg(trying(photos, tmp_path / 'sure.pth', tmp_path / 'test'))
    assert runner.test()['accuracy/top1'] == pytest.approx(by_hand(runner)) == pytest.approx(100 * 4 / 14)
    assert runner.visualizer.dataset_meta['classes'] == TEACHERS
    cfg = validating(distilling(photos, saved_store, tmp_path / 'unnamed', epochs=1), photos)
    with pytest.raises(UserError, match='of 3 classes and the model has 12, and nothing says which .*MappedAccuracy'):
        Runner.from_cfg(cfg).train()
    mapped = dict(type='mmtinyvit.MappedAccuracy', num_classes=12, index=INDEX)
    cfg = validating(distilling(photos, saved_store, tmp_path / 'mapped', epochs=1), photos, **mapped)
    Runner.from_cfg(cfg).train()


def test_a_class_that_the_validation_lacks(photos, tmp_path):
    """Labels are those of the training, and the checkpoint keeps their names for a test of its own."""
    val = shutil.copytree(photos, tmp_path / 'val')
    shutil.rmtree(val / 'class_0')
    runner = Runner.from_cfg(learning(photos, val, tmp_path / 'work'))
    runner.train()
    assert labels_of(runner.val_dataloader.dataset) == dict(class_1=1, class_2=2)
    test = Runner.from_cfg(trying(val, tmp_path / 'work/epoch_1.pth', tmp_path / 'test', 3))
    test.test()
    assert labels_of(test.test_dataloader.dataset) == dict(class_1=1, class_2=2)


def test_a_class_that_the_training_lacks(photos, tmp_path):
    val = shutil.copytree(photos, tmp_path / 'val')
    (val / 'class_1').rename(val / 'class_10')
    with pytest.raises(UserError, match=r'the data of the training has 3 classes .class_0, class_1, class_2.*'
                       r'\(class_0, class_10, class_2\); of the latter 1 class \(class_10\) cannot be told'):
        Runner.from_cfg(learning(photos, val, tmp_path / 'work')).train()


def test_starting_from_a_head_of_other_classes(photos, tmp_path):
    """As many, but others: the rows are put in order by MapHeadHook, or left out, or the training stops."""
    Runner.from_cfg(learning(photos, photos, tmp_path / 'first')).train()
    state = torch.load(tmp_path / 'first/epoch_1.pth', weights_only=False)
    state['meta']['dataset_meta'] = dict(classes=('class_2', 'class_0', 'class_1'))
    torch.save(state, tmp_path / 'start.pth')

    def start(name: str, *hooks: str) -> Runner:
        cfg = learning(photos, photos, tmp_path / name)
        cfg.load_from, cfg.optim_wrapper.optimizer.lr = str(tmp_path / 'start.pth'), 0.
        cfg.custom_hooks += [dict(type=f'mmtinyvit.{hook}') for hook in hooks]
        cfg.experiment_name = name
        runner = Runner.from_cfg(cfg)
        runner.train()
        return runner

    with pytest.raises(UserError, match='number 0 is class_2 there and class_0 here: map its head with .*MapHeadHook'):
        start('refused')
    start('new', 'NewHeadHook')
    mapped = start('mapped', 'MapHeadHook').model.head.fc.weight
    assert torch.equal(mapped, state['state_dict']['head.fc.weight'][[1, 2, 0]])


def test_the_tools_add_the_hook(photos, saved_store, tmp_path, run_tool):
    cfg = validating(distilling(photos, saved_store, tmp_path / 'work', epochs=1), photos)
    del cfg.default_hooks.class_names
    cfg.dump(tmp_path / 'train.py')
    assert 'nothing says which of them are the same' in run_tool('train', tmp_path / 'train.py').sentence
    assert run_tool('train', tmp_path / 'train.py', '--no-validate').status == 0
    assert f') {ClassNamesHook.__name__}' in log_of(tmp_path / 'work')  # in the list of hooks
