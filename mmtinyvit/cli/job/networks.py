"""The networks of a job: which teacher and student are meant, and how each sees its images."""
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import timm

from mmtinyvit.apis.models import PUBLISHED, get_model
from mmtinyvit.apis.onnx_export import image_size
from mmtinyvit.config import nearest, read_config
from mmtinyvit.errors import UserError
from mmtinyvit.models.backbones.tiny_vit import ARCHS
from mmtinyvit.models.checkpoints import read_state_dict
from mmtinyvit.zoo.index import entries

__all__ = ['Student', 'Teacher', 'find_student', 'find_teacher']

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
NORMALISATION = ('mean', 'std', 'to_rgb')


class Teacher(NamedTuple):
    """A teacher, as its config will have it.

    Attributes:
        name: What was asked for.
        model: Config of the model.
        preprocessor: ``mean``, ``std`` over pixels from 0 to 255, and ``to_rgb``.
        side: Height and width of its images in pixels; None takes those of the views.
        checkpoint: File or URL; None if the model brings its weights.
        imports: ``custom_imports`` of its config.
        classes: Label layout of its classes, where that is known before it is loaded.
    """
    name: str
    model: dict[str, Any]
    preprocessor: dict[str, Any]
    side: int | None
    checkpoint: str | None
    imports: dict[str, Any] | None = None
    classes: str | None = None


class Student(NamedTuple):
    """A student; see :class:`Teacher`. ``model`` has no number of classes yet."""
    name: str
    model: dict[str, Any]
    preprocessor: dict[str, Any]
    imports: dict[str, Any] | None = None

    def for_classes(self, num_classes: int, distilled: bool) -> dict[str, Any]:
        """The model with an output for each class; without ``distilled`` a plain classifier."""
        model, kind = dict(self.model), self.model['type'].rpartition('.')[-1]
        timm_model = 'Timm' in kind
        if distilled:
            model['type'] = 'mmtinyvit.DistillTimmClassifier' if timm_model else 'mmtinyvit.DistillClassifier'
        else:
            model['type'] = 'TimmClassifier' if timm_model else 'ImageClassifier'
        if timm_model:
            return model | dict(num_classes=num_classes)
        return model | dict(head=dict(model['head']) | dict(num_classes=num_classes))


def find_teacher(teacher: str, weights: str | None) -> Teacher:
    """The teacher that a setting means; no weights are read, but for the number of classes of a file for timm.

    Args:
        teacher: ``timm/NAME``, ``CONFIG.py`` with ``:WEIGHTS`` behind it, a published file, or a published name.
        weights: File of its weights.

    Raises:
        UserError: There is no such model, config or file, or the config does not say how images are normalised.
    """
    if teacher.startswith('timm/'):
        if weights:
            _require_file(weights, f'weights={weights}')
        return _timm_teacher(teacher, weights)
    path, colon, behind = teacher.rpartition(':') if '.py:' in teacher else (teacher, '', '')
    if teacher in entries() or path.endswith(PUBLISHED):
        return _published_teacher(teacher, weights)
    if not path.endswith('.py'):
        near = _near_timm(teacher) or nearest(teacher, entries())
        raise UserError(f'teacher={teacher} is no timm/NAME and no CONFIG.py{near}: name one of them, for example '
                        'teacher=timm/convnext_tiny.')
    if colon and weights:
        raise UserError(f'The weights of the teacher are named twice, as {behind} and as weights={weights}: leave one '
                        'of them out.')
    cfg = read_config(path)
    model = _model_of(cfg, path)
    checkpoint = behind or weights or cfg.get('load_from')
    if checkpoint:
        _require_file(checkpoint, f'The file of weights {checkpoint} of teacher={path}')
    own = dict(model.pop('data_preprocessor', None) or cfg.get('data_preprocessor') or {})
    if own.get('mean') is None:
        raise UserError(f'The teacher {path} has no data_preprocessor with mean and std: add those that it was '
                        'trained with.')
    return Teacher(teacher, model, {name: own[name] for name in NORMALISATION if name in own},
                   own.get('input_size') or _side(path), checkpoint, cfg.get('custom_imports'))


def _side(model: str) -> int | None:
    """Side of the images that a config's or published model's test makes; None if they keep a photo's size or shape."""
    if model.endswith('.py') and not read_config(model).get('test_dataloader'):
        return None
    try:
        height, width = image_size(get_model(model))
    except UserError:  # no fixed size
        return None
    return height if height == width else None


def _published_teacher(teacher: str, weights: str | None) -> Teacher:
    """A model of the zoo, or a file that ``mmtinyvit publish`` wrote."""
    entry = entries().get(teacher)
    if entry is None:
        _require_file(teacher, f'teacher={teacher}')
        if weights:
            raise UserError(f'The file teacher={teacher} brings its weights: leave weights={weights} out.')
    model = get_model(teacher)._config.to_dict()['model']
    own = model.pop('data_preprocessor')
    layout = None if entry is None else 'fall11' if entry.data == 'ImageNet-21k' else 'in1k'
    return Teacher(teacher, model, {name: own[name] for name in NORMALISATION if name in own},
                   own.get('input_size') or _side(teacher), weights or (entry.url if entry else teacher), None, layout)


def _timm_teacher(teacher: str, weights: str | None) -> Teacher:
    name = _timm_name(teacher, 'teacher')
    known = timm.get_pretrained_cfg(name)
    if not weights and not known.has_weights:
        raise UserError(f'timm has no weights for {name}: name a file with weights=FILE, or another teacher'
                        f'{_near_timm(teacher)}.')
    model = dict(type='TimmClassifier', model_name=name, pretrained=not weights)
    if weights:
        head = known.classifier[0] if isinstance(known.classifier, tuple | list) else known.classifier
        rows = read_state_dict(weights).get(f'{head}.weight')
        if rows is not None:
            model['num_classes'] = len(rows)
    elif not known.num_classes:
        raise UserError(f'{teacher} gives features and no classes, so there is nothing to keep of it: take a teacher '
                        'with a classifier, such as timm/convnext_tiny.')
    own = dict(mean=[round(255 * value, 4) for value in known.mean], std=[round(255 * value, 4) for value in known.std],
               to_rgb=True)
    return Teacher(teacher, model, own, known.input_size[-1], weights)


def find_student(student: str) -> Student:
    """The student that a setting means. Raises :class:`UserError` if there is none of that name."""
    if student.startswith('timm/'):
        return Student(student, dict(type='TimmClassifier', model_name=_timm_name(student, 'student'),
                                     pretrained=False), IMAGENET)
    if student.endswith('.py'):
        cfg = read_config(student)
        model = _model_of(cfg, student)
        own = dict(model.pop('data_preprocessor', None) or cfg.get('data_preprocessor') or {})
        own = IMAGENET | {name: own[name] for name in NORMALISATION if own.get(name) is not None}
        if 'Timm' not in model['type'] and 'head' not in model:
            raise UserError(f'The model of {student} has no head: name a classifier with one.')
        return Student(student, model, own, cfg.get('custom_imports'))
    known = {f'tinyvit-{arch}': arch for arch in ARCHS}
    if student not in known:
        near = get_close_matches(student.lower().replace('_', '-'), known, 1, 0.5)
        meant = f' (did you mean {near[0]}?)' if near else ''
        raise UserError(f'There is no student {student}{meant}: name {", ".join(known)}, timm/NAME or CONFIG.py.')
    arch = known[student]
    head = dict(type='LinearClsHead', in_channels=ARCHS[arch]['embed_dims'][-1],
                loss=dict(type='CrossEntropyLoss'), init_cfg=dict(type='TruncNormal', layer='Linear', std=.02, bias=0.))
    return Student(student, dict(type='ImageClassifier', backbone=dict(type='mmtinyvit.TinyViT', arch=arch), head=head),
                   IMAGENET)


def _model_of(cfg: Any, path: str) -> dict[str, Any]:
    model = cfg.to_dict().get('model') if 'model' in cfg else None
    if not model or 'type' not in model:
        raise UserError(f'The config {path} has no model: name the config of a classifier.')
    return model


def _require_file(path: str, what: str) -> None:
    if '://' not in path and not Path(path).is_file():
        raise UserError(f'{what} does not exist: check the path.')


def _timm_name(text: str, setting: str) -> str:
    name = text.removeprefix('timm/')
    if not name:
        raise UserError(f'{setting}={text} names no model: write its name behind the slash, as in timm/convnext_tiny.')
    arch, _, tag = name.partition('.')
    tags = [known.partition('.')[2] for known in timm.list_pretrained(f'{arch}.*')]
    if not timm.is_model(arch):
        raise UserError(f'timm has no model {name}{_near_timm(text)}: correct {setting}=.')
    if tag and tag not in tags:
        raise UserError(f'timm has no weights {tag} for {arch}: correct {setting}=, where there are '
                        f'{", ".join(f"timm/{arch}.{each}" for each in tags[:4]) or "none"}.')
    return name


def _near_timm(text: str) -> str:
    near = get_close_matches(text.removeprefix('timm/'), timm.list_models(pretrained=True) + timm.list_models(), 2, 0.6)
    return f' (did you mean {" or ".join(f"timm/{name}" for name in near)}?)' if near else ''
