"""The settings of a job, from ``KEY=VALUE`` words or keyword arguments."""
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from mmtinyvit.errors import UserError

__all__ = ['SETTINGS', 'Settings', 'parse_words', 'read_settings']

PLACES = ('data', 'out', 'weights', 'val', 'finetune')  # absolute, so that a job is the same from any folder


def _setting(what: str, default: Any = MISSING, least: int | float | None = None) -> Any:
    return field(default=default, metadata=dict(what=what, least=least))


@dataclass(frozen=True)
class Settings:
    """What a job is to do; each field is a ``KEY`` of the command line."""
    data: str = _setting('images to distil on: folder, archive or URL; labels are not needed')
    teacher: str = _setting('timm/NAME, CONFIG.py[:WEIGHTS], or a published name or file')
    out: str = _setting('folder for all that is written')
    student: str = _setting('tinyvit-5m, -11m, -21m, timm/NAME, or CONFIG.py', 'tinyvit-5m')
    epochs: int = _setting('epochs of the distillation', 50, 1)
    weights: str | None = _setting("file of the teacher's weights, instead of timm's own", None)
    classes: str | None = _setting("names of the teacher's classes, if it does not know them: in1k, or a file", None)
    val: str | None = _setting('labelled images to test on (default: a part of labelled data)', None)
    layout: str | None = _setting('of data: folders, class-archives, archive or shards (default: found out)', None)
    match: str | None = _setting("which archives of data, such as 'train-*.tar' (default: all in it)", None)
    labels: str | None = _setting('of data: class, cls, json:FIELD, none, or a file (default: found out)', None)
    finetune: str | None = _setting('labelled images to finetune the student on, afterwards', None)
    finetune_epochs: int = _setting('epochs of the finetuning', 20, 1)
    size: int | None = _setting("side of the views in pixels (default: the teacher's, at most 224)", None, 8)
    views: int | None = _setting('views per image in the store (default: one per epoch, if there is room)', None, 1)
    topk: int | None = _setting('classes kept per view (default: as many as the teacher needs)', None, 1)
    batch_size: int = _setting('images per step and process', 128, 2)
    lr: float = _setting('learning rate for such a batch', 1e-3, 0.)
    workers: int | None = _setting('loader processes (default: one per core, at most 8)', None, 0)
    gpus: int = _setting('processes on this machine, one per GPU', 1, 1)
    amp: bool = _setting('True for mixed precision, on a GPU', False)


SETTINGS = {each.name: each for each in fields(Settings)}


def parse_words(words: Sequence[str]) -> dict[str, str]:
    """``['data=photos/', 'epochs=50']`` as a dict. Raises :class:`UserError` for others, and names given twice."""
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition('=')
        if not equals:
            raise UserError(f'{word!r} is not KEY=VALUE: write for example data={word}.')
        if name in given:
            raise UserError(f'{name} is given twice: leave one of them out.')
        given[name] = value
    return given


def read_settings(given: Mapping[str, Any]) -> Settings:
    """Check names and values.

    Args:
        given: Values by name; text is read as a number where one is wanted. None takes the default.

    Raises:
        UserError: A name is not known, one that is needed is missing, or a value is none that is possible.
    """
    for name in given:
        if name not in SETTINGS:
            near = get_close_matches(name, SETTINGS, 1, 0.6)
            meant = f'did you mean {near[0]}?' if near else f'there are {", ".join(SETTINGS)}.'
            raise UserError(f'There is no setting {name}: {meant}')
    missing = [name for name, each in SETTINGS.items() if each.default is MISSING and given.get(name) in (None, '')]
    if missing:
        raise UserError(f'{" and ".join(missing)} {"is" if len(missing) == 1 else "are"} missing: add '
                        f'{" ".join(f"{name}=..." for name in missing)} '
                        f'({"; ".join(SETTINGS[name].metadata["what"] for name in missing)}).')
    values = {name: _value(name, value) for name, value in given.items() if value is not None}
    settings = Settings(**values)
    if settings.views is not None and settings.views > settings.epochs:
        raise UserError(f'views={settings.views} is more than epochs={settings.epochs}, and an epoch reads one view: '
                        'lower views, or raise epochs.')
    return settings


def _value(name: str, value: Any) -> Any:
    kind, least = SETTINGS[name].type, SETTINGS[name].metadata['least']
    if kind is bool:
        if str(value).lower() not in ('true', 'false', '1', '0'):
            raise UserError(f'{name}={value} must be true or false.')
        return str(value).lower() in ('true', '1')
    if kind in (str, str | None):
        text = os.path.expanduser(str(value))
        return os.path.abspath(text) if name in PLACES and '://' not in text else text
    try:
        number = (float if kind is float else int)(str(value))
    except ValueError:
        number = None
    if number is None or not least <= number < float('inf') or (kind is float and number == 0):
        wanted = 'a number more than' if kind is float else 'a whole number from'
        raise UserError(f'{name}={value} must be {wanted} {least:g}.')
    return number
