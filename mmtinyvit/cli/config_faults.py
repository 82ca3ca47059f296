"""What MMEngine, PyTorch and others raise about a config, as one sentence that names the setting.

They raise deep in their own code about values that stand in a config. Here the traceback is asked what was being built,
and the config where that stands. What is raised by our own code, or by a user's, stays a bug with its traceback.
"""
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from traceback import walk_tb
from types import FrameType
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import OPTIMIZERS, DefaultScope, Registry
from timm import list_models
from torch.utils.data import DataLoader

from mmtinyvit.config import READ_NAMES, nearest
from mmtinyvit.errors import UserError

__all__ = ['config_fault']

LIBRARIES = ('mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg', 'timm', 'torch', 'torchvision', 'numpy', 'logging',
             'multiprocessing', 'huggingface_hub')
LONGEST = 400  # characters of an error that is quoted; some list every tensor
BUILDERS = ('build_from_cfg', 'build_scheduler_from_cfg')
RUNNER = 'mmengine.runner.runner'
SETTINGS = {  # which setting the methods of a runner work on
    '_check_scheduler_cfg': 'param_scheduler', 'build_dataloader': 'dataloader', 'build_evaluator': 'evaluator',
    'build_logger': 'log_level', 'build_log_processor': 'log_processor', 'build_model': 'model',
    'build_optim_wrapper': 'optim_wrapper', 'build_param_scheduler': 'param_scheduler', 'build_test_loop': 'test_cfg',
    'build_train_loop': 'train_cfg', 'build_val_loop': 'val_cfg', 'build_visualizer': 'visualizer',
    'register_custom_hooks': 'custom_hooks', 'register_default_hooks': 'default_hooks', 'scale_lr': 'auto_scale_lr',
    'set_randomness': 'randomness', 'setup_env': 'env_cfg', 'wrap_model': 'model_wrapper_cfg'}
LOOPS = dict(EpochBasedTrainLoop='train', IterBasedTrainLoop='train', ValLoop='val', TestLoop='test')


def config_fault(error: Exception) -> UserError | None:
    """The sentence for a fault of the config that ``error`` is about; None if it is about something else."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    message = ' '.join(str(error.args[0] if error.args else error).split()).rstrip('.')
    text = (_of_builder(error, message, frames) or _of_runner(error, message, frames)
            or _of_batch(message, type(error).__name__, frames))
    return UserError(text) if text else None


def _of_builder(error: Exception, message: str, frames: list[FrameType]) -> str | None:
    """What went wrong while a registry built a part of the config."""
    builders = [i for i, frame in enumerate(frames) if frame.f_code.co_name in BUILDERS and _library(frame)]
    if not builders:
        return None
    at = builders[-1]
    build, inner = frames[at].f_locals, frames[at + 1:]
    settings, kind = build['cfg'], build.get('obj_type', build.get('scheduler_type'))
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', kind)
    methods = [SETTINGS.get(frame.f_code.co_name) for frame in frames[:at] if _module(frame) == RUNNER]
    built = [frames[i].f_locals['cfg'] for i in reversed(builders)]
    outer = next((part for part in built if isinstance(part, Mapping)), {})  # around what is no dict
    where = _place(_config(frames), outer) or next(filter(None, reversed(methods)), 'the config')
    if not isinstance(settings, Mapping):
        return f'{where} has {settings!r} where a dict belongs: write dict(type={settings!r}, ...).'
    part = build.get('obj_cls', build.get('scheduler_cls'))
    if not inner and part is None:
        if isinstance(error, KeyError) and kind is not None:
            return _unknown(kind, where, build['registry'])
        if isinstance(error, KeyError):
            return f'{where} has no type: say there which class is meant, as type=...'
        return f'{where} cannot be used ({message}): correct it.'
    if text := _of_call(message, name, where, part, settings, inner):
        return text
    if found := re.match(r'Unknown model \((.*)\)$', message):  # of timm
        return f'timm has no model {found[1]}{nearest(found[1], list_models())}: correct {where}.'
    if type(error).__name__ in ('LocalEntryNotFoundError', 'OfflineModeIsEnabled'):
        return (f'{name} in {where} wants weights from the Hugging Face Hub, which cannot be reached, and they were '
                'not fetched before: go online once, or set pretrained=False there and name a checkpoint.')
    if _by_libraries(inner):
        return f'{name} in {where} cannot be built ({_raised(error, inner[-1], message)}): correct it.'
    return None


def _of_runner(error: Exception, message: str, frames: list[FrameType]) -> str | None:
    """What went wrong while a runner prepared something else that the config names."""
    runners = [i for i, frame in enumerate(frames) if _module(frame) == RUNNER]
    if not runners:
        return None
    at = runners[-1]
    method, inner, values = frames[at].f_code.co_name, frames[at + 1:], frames[at].f_locals
    methods = [SETTINGS.get(frames[i].f_code.co_name) for i in runners]
    where, cfg = next(filter(None, reversed(methods)), None), _config(frames)
    if any(_module(frame).startswith('mmengine.visualization') for frame in inner):
        where = 'visualizer'
    if method == 'call_hook' and any(kind.__module__.startswith(LIBRARIES) and kind is not Hook
                                     for kind in type(values['hook']).__mro__[:-1]):
        where = f'{type(values["hook"]).__name__} in default_hooks or custom_hooks'
    if _module(frames[-1]) == 'mmengine.runner.loops':
        where = 'train_cfg'
    if any(frame.f_code.co_name == '_clip_grad' for frame in inner):
        where = 'clip_grad of optim_wrapper'
    optimizer = next((frame.f_locals['optimizer_cfg'] for frame in inner if 'optimizer_cfg' in frame.f_locals), None)
    if optimizer and OPTIMIZERS.get(optimizer.get('type', '')) is None:
        return _unknown(optimizer.get('type'), 'optim_wrapper.optimizer', OPTIMIZERS)
    call = re.match(r"(\w+)\.(\w+)\(\) got an unexpected keyword argument '(\w+)'", message)
    part = call and getattr(frames[-1].f_globals.get(call[1]), call[2], None)
    if part and not inner and method != 'build_dataloader':  # what the runner calls itself
        where = SETTINGS.get(call[2], where)
        return _of_call(message, call[1] if call[2] == '__init__' else where, where, part, {call[3]: None}, inner)
    if not where or not _by_libraries(frames[at:]):
        return None
    if method == 'build_dataloader':
        where = _place(cfg, values['dataloader']) or where
        if text := _of_call(message, 'A loader', where, DataLoader, values['dataloader'], inner):
            return text
    return f'{where} cannot be used ({_raised(error, frames[-1], message)}): correct it.'


def _of_batch(message: str, kind: str, frames: list[FrameType]) -> str | None:
    """What a first batch shows: images, pipeline, preprocessor and model do not fit each other."""
    loops = [LOOPS.get(type(frame.f_locals.get('self')).__name__) for frame in frames]
    loader = f'{next(filter(None, loops[::-1]), "the")}_dataloader'.replace('the_', 'the ')
    modules = [_module(frame) for frame in frames]
    if found := re.search(r'mat1 and mat2 shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)', message):
        heads = any('.heads' in module or module == 'mmtinyvit.models.classifiers.students' for module in modules)
        return (f'The head takes {found[2]} features, and the network before it gives {found[1]}: set '
                f'in_channels={found[1]} in model.head.') if heads else None
    if found := re.search(r'Target (-?\d+) is out of bounds', message):
        return (f'An image of {loader} has the label {found[1]}, which is none of the classes of the model: correct '
                'the list of images, or set num_classes of the head.')
    if 'stack expects each tensor to be equal size' in message or 'storage that is not resizable' in message:
        return (f'The images of a batch have different sizes: let the pipeline of {loader} bring all to one, with '
                'Resize to a fixed scale or with CenterCrop, or set its batch_size to 1.')
    if 'Expected more than 1 value per channel when training' in message:
        return (f'BatchNorm cannot be trained with a batch of one image: set batch_size of {loader} to 2 or more, or '
                'drop_last=True if one image is left at the end of an epoch.')
    if 'data_preprocessor' in modules[-1] and 'must match the size of tensor' in message:
        return f'mean or std of data_preprocessor does not fit the channels of the images ({message}): correct it.'
    missing = re.search(r"(?:KeyError: )?'?(\w+)'?$", message)[1] if kind == 'KeyError' and message else ''
    if missing == 'inputs' and modules[-1].endswith(('data_preprocessor', 'store_check', 'engine.teacher')):
        return (f'The samples of {loader} have no inputs: end its pipeline with PackInputs, or with '
                'mmtinyvit.PackViewInputs where views are replayed.')
    results = frames[-1].f_locals.get('results')
    here = frames[-1].f_code.co_name == 'transform' and isinstance(results, Mapping) and missing not in results
    if missing and (here or ('Original Traceback' in message and ' in transform ' in message)):
        name = type(frames[-1].f_locals['self']).__name__ if here else 'A transform'
        return (f'{name} in the pipeline of {loader} needs {missing!r}, which nothing before it gives: put the '
                'transform that does before it, such as mmtinyvit.LoadImage for img.')
    return None


def _of_call(message: str, name: Any, where: str, part: Any, settings: Mapping, inner: list[FrameType]) -> str | None:
    """The sentence if ``settings`` have names that the call does not take, or lack some that it needs."""
    if (found := re.search(r"unexpected keyword argument '(\w+)'", message)) and found[1] in settings:
        near = nearest(found[1], _arguments(part))
        inherited = '' if near else '; if a config changes the type that it inherits, add _delete_=True there'
        return f'{name} takes no {found[1]}{near}: correct {where}{inherited}.'
    found = re.search(r'missing \d+ required .*arguments?: (.*)', message)
    if found and all(frame.f_code.co_name == '__init__' for frame in inner):
        return f'{name} needs {found[1]}, which {where} does not have: add it.'
    return None


def _unknown(kind: Any, where: str, registry: Registry) -> str:
    return (f'type={kind!r} in {where} is no {registry.name} that is known here{nearest(str(kind), _known(registry))}: '
            'correct it, or name the module that registers it in custom_imports.')


def _raised(error: Exception, frame: FrameType, message: str) -> str:
    place = f'{_library(frame)}, {Path(frame.f_code.co_filename).name}'
    return f'{type(error).__name__} in {place}: {shorten(message, LONGEST, placeholder=" ...")}'


def _module(frame: FrameType) -> str:
    return frame.f_globals.get('__name__', '')


def _library(frame: FrameType) -> str:
    """The library that a frame's code is of; empty for ours, and for anybody else's."""
    name = _module(frame).partition('.')[0]
    return name if name in LIBRARIES else ''


def _by_libraries(frames: list[FrameType]) -> bool:
    """Whether libraries raised it, and nobody but them and this library is in between."""
    return bool(frames and _library(frames[-1])) and all(
        _library(frame) or _module(frame).startswith('mmtinyvit.') for frame in frames)


def _config(frames: list[FrameType]) -> Config | None:
    """The config that was at work: a runner's, or a tool's."""
    for frame in frames[::-1]:
        for value in (frame.f_locals.get('cfg'), getattr(frame.f_locals.get('self'), 'cfg', None)):
            if isinstance(value, Config):
                return value
    return None


def _place(cfg: Config | None, settings: Any) -> str:
    """The dotted name of where the dict ``settings`` stands in a config, such as ``custom_hooks.0``; or empty."""
    def walk(value: Any, name: str) -> Iterator[tuple[str, Mapping]]:
        if isinstance(value, Mapping):
            yield name, value
        items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        for key, item in items:
            yield from walk(item, f'{name}.{key}')

    places = dict(found for name in cfg or () if name in READ_NAMES for found in walk(cfg[name], name))
    # what is built has more, from a place above it; and some take values out of their settings before they build
    exact = [name for name, found in places.items() if found and all(
        key in settings and settings[key] == value for key, value in found.items())]
    alike = [name for name, found in places.items() if 'type' in found and found['type'] == settings.get('type')]
    return max(exact, key=lambda name: len(places[name]), default=None) or next(iter(alike), '')


def _known(registry: Registry) -> Iterator[str]:
    """The names that a config could have used."""
    while registry.parent is not None:
        registry = registry.parent
    scope = getattr(DefaultScope.get_current_instance(), 'scope_name', 'mmengine')
    for each in (registry, *registry.children.values()):
        each.import_from_location()
        bare = each.scope in ('mmengine', scope)
        yield from (name if bare else f'{each.scope}.{name}' for name in each.module_dict)


def _arguments(part: Any) -> Iterator[str]:
    """The names of what a class takes, also through ``**kwargs`` of its parents; or a function."""
    for call in [kind.__init__ for kind in part.__mro__] if inspect.isclass(part) else [part]:
        yield from (name for name in inspect.signature(call).parameters if name not in ('self', 'args', 'kwargs'))
