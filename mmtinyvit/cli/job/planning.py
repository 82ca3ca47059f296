"""What a job will cost, and what it will keep: decided once, by asking the teacher about a few images."""
import json
import math
import os
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from socket import gaierror
from textwrap import shorten
from typing import Any
from urllib.error import URLError

import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import nn

from mmtinyvit.apis.store_plan import free_bytes, plan_store, recommend_views
from mmtinyvit.config import read_config
from mmtinyvit.datasets import set_view
from mmtinyvit.datasets.load_teacher_logits import TEACHER_KEYS, ignore_stores
from mmtinyvit.engine.runner import TeacherRunner
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import LAYOUTS, layout_with, list_classes, require_classes
from mmtinyvit.models.classifiers.teachers import RandomTeacherError
from mmtinyvit.store.files import write_atomically

from ..runner import build_runner, count_cores
from ..throughput import images_per_second, shorten_batch
from .configs import write_configs
from .images import ImageSet, split_images
from .networks import Student, Teacher
from .plan import Layout, Plan
from .settings import Settings

__all__ = ['check_devices', 'load_teacher', 'make_plan', 'match_labels', 'read_plan', 'view_size', 'write_plan']

LARGEST = 224  # side of the views, unless more is asked for
PROBED = 128  # images
MAY_CHANGE = {'out', 'gpus'}  # from one call to the next: another machine, where the folder has another name
ROOM = 0.9  # share of what is free that a store may take
LONGEST = 200  # characters of an error that is quoted


def view_size(settings: Settings, teacher: Teacher) -> int:
    """Side of the views in pixels."""
    return settings.size or min(teacher.side or LARGEST, LARGEST)


def loader_processes(settings: Settings) -> int:
    return min(8, count_cores()) if settings.workers is None else settings.workers


def check_devices(settings: Settings) -> None:
    """Raises :class:`UserError` if there are fewer GPUs than the settings need; a training would say so hours later."""
    found = torch.cuda.device_count()
    if settings.amp and not found:
        raise UserError('amp=true needs a GPU, and none is found here: leave it out.')
    if 0 < found < settings.gpus:
        raise UserError(f'gpus={settings.gpus} is more than the {found} that are here: lower it.')


def load_teacher(where: Layout, settings: Settings, teacher: Teacher, student: Student) -> nn.Module:
    """The teacher with its weights, from the config that will save its logits, before anything else is done.

    Raises:
        UserError: The weights cannot be fetched, or do not fill it; or there is no such list of its classes.
    """
    if settings.classes:
        list_classes(settings.classes)
    first = ImageSet('', '', None, 2, ())
    draft = Plan(2, 1, 1, view_size(settings, teacher), 0, first, None, None, '', 0, 0, 0)
    write_configs(where, settings, draft, teacher, student)
    cfg = _config(where.teacher, where)
    try:
        with quiet(where):
            return build_runner(cfg, TeacherRunner).model
    except RandomTeacherError as error:
        raise UserError(f'The teacher {teacher.name} cannot be loaded: {error.fault}; add them to the line, as '
                        f'teacher={teacher.name}:FILE.') from error
    except UserError as error:
        raise UserError(f'The teacher {teacher.name} cannot be loaded: {error}') from error
    except Exception as error:
        if not _about_a_network(error):
            raise
        raise UserError(f'The weights of the teacher {teacher.name} are not on this machine and cannot be fetched '
                        f'({type(error).__name__}): go online once, or name a file with weights=FILE.') from error


def _about_a_network(error: BaseException | None) -> bool:
    """Whether a download failed; the libraries below raise many kinds of errors then."""
    while error is not None:
        if isinstance(error, ConnectionError | TimeoutError | gaierror | URLError) or type(error).__module__.partition(
                '.')[0] in ('huggingface_hub', 'requests', 'urllib3', 'httpx', 'httpcore'):
            return True
        error = error.__cause__ or error.__context__
    return False


def _config(path: Path, where: Layout) -> Config:
    """A config of the job, to try something out with."""
    cfg = read_config(path)
    cfg.launcher, cfg.log_level, cfg.work_dir = 'none', 'WARNING', str(where.work('plan'))
    return cfg


def quiet(where: Layout) -> ExitStack:
    """A context in which MMEngine and timm say what they say into ``plan.log``."""
    stack = ExitStack()
    where.work('plan').mkdir(parents=True, exist_ok=True)
    log = stack.enter_context(open(where.work('plan') / 'plan.log', 'a'))
    stack.enter_context(redirect_stdout(log))
    stack.enter_context(redirect_stderr(log))
    return stack


def _counted(classes: int) -> str:
    return f'{classes:,} class{"es" * (classes != 1)}'


def match_labels(classes: tuple[str, ...], names: tuple[str, ...] | None, num_classes: int
                 ) -> tuple[bool, list[int] | None, str]:
    """Whether labels can judge a student of this teacher.

    Args:
        classes: Names of the labels; empty if there are none.
        names: Names of the teacher's classes, if they are known.
        num_classes: How many it has.

    Returns:
        tuple: Whether; the teacher's class of each label, None if they are the same; and what to say.
    """
    if not classes:
        return False, None, 'none: the images have no labels'
    if names is None:
        if len(classes) != num_classes:
            known = next((name for name, layout in LAYOUTS.items() if layout.num_classes == num_classes), None)
            tell = f'classes={known}, if they are those, or classes=FILE tells' if known else 'classes=FILE tells'
            return False, None, (f'none: the labels are of {_counted(len(classes))}, and the teacher has '
                                 f'{num_classes:,}, whose names are not known; {tell} them')
        return True, None, "the labels' classes are taken for the teacher's, in sorted order"
    try:
        index = require_classes(names, classes, 'The teacher has {ours}, and the labels are of {theirs}', 'correct it.')
    except UserError:
        return False, None, (f'none: the labels are of {_counted(len(classes))}, not all among those of the teacher, '
                             'by name')
    same = len(names) == len(classes) and index.tolist() == list(range(len(names)))
    return True, None if same else index.tolist(), f"{_counted(len(classes))}, found by name among the teacher's"


def make_plan(where: Layout, settings: Settings, teacher: Teacher, student: Student, model: nn.Module,
              train: ImageSet, val: ImageSet | None,
              finetune: tuple[ImageSet, ImageSet] | None) -> Plan:
    """Ask the teacher about a few images, write the configs, and try the student out.

    Args:
        where: The folders.
        settings: What is asked for.
        teacher: The teacher.
        student: The student.
        model: The loaded teacher.
        train: Images to distil on; of labelled ones some are held out to test on, unless there is ``val``.
        val: Labelled images to test on, if there are any.
        finetune: Labelled images to finetune and to test on, if there are any.

    Raises:
        UserError: An image cannot be read, ``topk`` is more than the teacher has classes, there is no room, or the
            student fails.
    """
    workers = loader_processes(settings)
    plan = Plan(1, 1, settings.views or settings.epochs, view_size(settings, teacher), workers, train, val, None, '', 0,
                0, 0)
    write_configs(where, settings, plan, teacher, student)
    with quiet(where):
        found = plan_store(_config(where.teacher, where), model, min(PROBED, train.count), plan.views)
    labels = (val or train).classes
    named = settings.classes or teacher.classes
    if not named and not model.class_names and labels:
        named = layout_with(labels, found['classes'])
        teacher = teacher._replace(classes=named)
    names = list_classes(named) if named else model.class_names
    if names and len(names) != found['classes']:
        raise UserError(f'classes={named} names {len(names):,} classes, and the teacher {teacher.name} has '
                        f'{found["classes"]:,}: correct it.')
    if settings.topk is not None and settings.topk > found['classes']:
        raise UserError(f'topk={settings.topk} is more than the {found["classes"]} classes of the teacher '
                        f'{teacher.name}: lower it.')
    rows = [row for row in found['rows'] if row['codec'] == found['recommended']['codec']]
    best = found['recommended'] if settings.topk is None else min(
        rows, key=lambda row: abs(row['topk'] - settings.topk))
    scale = (settings.topk or best['topk']) / best['topk']
    advice = recommend_views(plan.views, round(best['total_bytes'] * scale), found['hours'],
                             int(ROOM * free_bytes(where.store)))
    if advice['views'] < (settings.views or 1):
        raise UserError(f'{plan.views} views of {train.count:,} images take {round(best["total_bytes"] * scale):,} '
                        f'bytes, and {where.out} has room for {advice["views"]}: lower views, or choose another out.')
    tested, index, note = match_labels(labels, names, found['classes'])
    if tested and val is None:
        train, val = split_images(train, where.out / 'images')
    fine_train, fine_val = finetune or (None, None)
    plan = plan._replace(num_classes=found['classes'], topk=settings.topk or best['topk'], views=advice['views'],
                         train=train, val=val if tested else None, index=index, note=note, store_bytes=advice['bytes'],
                         hours=advice['hours'], mean_kl=best['mean_kl'],
                         finetune_train=fine_train, finetune_val=fine_val)
    write_configs(where, settings, plan, teacher, student)
    images = train.count * settings.epochs + (fine_train.count * settings.finetune_epochs if fine_train else 0)
    return plan._replace(training_hours=images / _training_speed(where, settings, plan, student) / 3600)


def _training_speed(where: Layout, settings: Settings, plan: Plan, student: Student) -> float:
    """Images per second of the student's training, from a few steps with made-up records: there is no store yet."""
    record = (torch.arange(plan.topk), torch.full((plan.topk, ), -math.log(plan.num_classes)),
              torch.tensor(1 - plan.topk / plan.num_classes))

    def add_records(data: Mapping[str, Any]) -> None:
        for sample in data['data_samples']:
            for name, value in zip(TEACHER_KEYS[:3], record, strict=True):
                sample.set_field(value, name)

    cfg = _config(where.student, where)
    shorten_batch(cfg)
    with quiet(where), torch.autocast(get_device(), enabled=settings.amp):
        runner = build_runner(cfg)
        dataset = runner.train_loop.dataloader.dataset
        ignore_stores(dataset)
        set_view(dataset, 0)
        try:
            return images_per_second(runner, add_records)
        except (AssertionError, RuntimeError) as error:
            reason = shorten(str(error), LONGEST, placeholder=' ...').rstrip('.')
            raise UserError(f'A step of the student {student.name} with {cfg.train_dataloader.batch_size} views of '
                            f'{plan.size} x {plan.size} pixels fails ({reason}): choose another size=, batch_size= or '
                            'student=.') from error


# ---------------------------------------------------------------- as a file
def write_plan(path: Path, settings: Settings, plan: Plan) -> None:
    """Keep a plan, and what it was made for."""
    content = dict(settings=vars(settings), plan={name: value._asdict() if isinstance(value, ImageSet) else value
                                                  for name, value in plan._asdict().items()})
    write_atomically(path, [json.dumps(content, indent=2).encode()])


def read_plan(path: Path, settings: Settings) -> Plan | None:
    """The plan of an interrupted job, None if there is none.

    Raises:
        UserError: It was made for other settings or in another folder, or it is damaged.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        before, now, values = content['settings'], vars(settings), content['plan']
        began = before['out']
        for name in ('train', 'val', 'finetune_train', 'finetune_val'):
            if values[name] is not None:
                values[name] = ImageSet(**values[name] | dict(classes=tuple(values[name]['classes'])))
        plan = Plan(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f'{path} is no plan that this version can read: remove it to plan again.') from error
    mend = 'go on with the same line, or choose another out'
    if not (path.parent / 'store').exists():
        mend += f', or remove {path} to plan again'
    for name in sorted(now.keys() - MAY_CHANGE):
        if before.get(name) != now[name]:
            there, here = (f'no {name}' if value is None else f'{name}={value}'
                           for value in (before.get(name), now[name]))
            raise UserError(f'{path.parent} holds a job with {there}, and this line has {here}: {mend}.')
    if not (os.path.isdir(began) and os.path.samefile(began, path.parent)):
        raise UserError(f'{path.parent} holds a job that began in {began}, and its configs name files there: '
                        'move it back, or choose another out.')
    return plan
