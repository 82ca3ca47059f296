"""Configs as files: found, read, overridden by options, and asked whether they save logits.

Every part of the library reads them here.
"""
import ast
import inspect
import os
import re
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine import registry as roots
from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry
from mmengine.utils import get_object_from_string

from .compat import MINIMUM_VERSIONS, OPTIONAL, require_library
from .errors import UserError
from .paths import config_root

__all__ = ['READ_NAMES', 'nearest', 'read_config', 'saves_logits', 'saving_loop']

SAVING_LOOP = 'mmtinyvit.SaveLogitsLoop'
# The names at the top level of a config that anybody reads: MMEngine's runner, and this library.
RUNNER_NAMES = frozenset("""activation_checkpointing auto_scale_lr compile custom_hooks custom_imports data_preprocessor
    default_hooks default_scope efficient_conv_bn_eval env_cfg experiment_name find_unused_parameters launcher load_from
    log_level log_processor model model_wrapper_cfg optim_wrapper param_scheduler randomness resume sync_bn test_cfg
    test_dataloader test_evaluator train_cfg train_dataloader tta_model tta_pipeline val_cfg val_dataloader
    val_evaluator visualizer work_dir""".split())
PARAMWISE = frozenset("""bias_decay_mult bias_lr_mult bypass_duplicate custom_keys dcn_offset_lr_mult dwconv_decay_mult
    flat_decay_mult layer_decay_rate norm_decay_mult""".split())  # of MMEngine's constructor, and of ours
READ_NAMES = RUNNER_NAMES | {'data_source', 'mode', 'random_teacher', 'store', 'store_topk', 'store_weights'}


def read_config(name: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file, or one of the library's by its path within ``configs``.

    Types that a config in pure Python gives as classes become their registered names, as in any other config. What
    looks like a slip is printed as a warning: names at the top level that nobody reads, or that are set too late.

    Args:
        name: The file; ``mmtinyvit::tinyvit/distill_in21k.py`` is one of the library's, wherever that is installed.
        options: Values by dotted name, as of ``--cfg-options``: ``{'custom_hooks.0.topk': 5}``.

    Raises:
        UserError: There is no such file, it is not a config, it is one of mmdet or mmseg, whose models cannot be
            built here, or an option does not fit into it.
    """
    if str(name).startswith('mmtinyvit::'):
        name = config_root() / str(name).removeprefix('mmtinyvit::')
    root = str(config_root().parent)
    if root not in sys.path:
        sys.path.append(root)  # for the custom_imports of projects/
    path = next((path for path in (Path(name), config_root().parent / name, config_root() / name) if path.is_file()),
                None)
    if path is None:
        raise UserError(f'There is no config {name}{_nearest_file(Path(name))}: give the path of a config file; those '
                        f'of the library are in {config_root()}.')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is a program: anything may go wrong in it
        cause = error
        while cause:
            for library in OPTIONAL:
                if library in str(cause):
                    require_library(library, f'The config {path}')
            cause = cause.__cause__ or cause.__context__
        if 'load mmtinyvit config' in str(error):
            raise UserError(f'The config {path} inherits from mmtinyvit::, which MMEngine does not know: write the '
                            f"path, such as _base_ = '{config_root()}/demo/distill.py'.") from error
        reason = ' '.join(str(error).split()).partition(', the current sys.path')[0]
        advice = 'correct it'
        if isinstance(error, FileNotFoundError):
            advice += (f", where _base_ is a path relative to its file; the library's are in {config_root()}, as in "
                       f"_base_ = '{config_root()}/demo/distill.py'")
        raise UserError(f'The config {path} cannot be read ({type(error).__name__}: {reason}): {advice}.') from error
    text = cfg.text  # of all files
    # the runner formats the config's text several times; without yapf that costs milliseconds instead of seconds
    cfg = Config(_with_names(cfg.to_dict()), filename=cfg.filename, format_python_code=False)
    warnings = [f'{name} of {cfg.filename} is a name that nothing reads (did you mean {close}?).'
                for name, value in cfg.items() if isinstance(value, dict | list) and not name.endswith('_pipeline')
                for close in _close(name, READ_NAMES)]
    warnings += [f'{name} of {cfg.filename} changes nothing: its _base_ has used it already, so set what is made of it.'
                 for name in _set_too_late(path, text)]
    for key, value in (options or {}).items():
        warnings += _set_option(cfg, key, value)
    wrapper = cfg.get('optim_wrapper')
    warnings += [f'{name} of optim_wrapper.paramwise_cfg is a name that nothing reads (did you mean {close}?).'
                 for name in (isinstance(wrapper, dict) and wrapper.get('paramwise_cfg')) or {}
                 for close in _close(name, PARAMWISE)]
    scope = cfg.get('default_scope')
    if scope in OPTIONAL:
        require_library(scope, f'The config {path}')
    elif scope and find_spec(scope) is None:
        raise UserError(f'default_scope={scope!r} of the config {path} is no library that is installed'
                        f'{nearest(scope, MINIMUM_VERSIONS)}: correct it.')
    if os.environ.get('RANK', '0') == '0':
        for warning in dict.fromkeys(warnings):
            print(f'Warning: {warning}', file=sys.stderr)
    return cfg


def nearest(name: str, names: Iterable[str]) -> str:
    """``' (did you mean A or B?)'``, of ``names`` those most like ``name``; empty if none is. Scopes do not count."""
    by_part: dict[str, list[str]] = {}
    for known in map(str, names):  # some dicts count
        by_part.setdefault(known.rpartition('.')[2].lower(), []).append(known)
    found = [known for part in get_close_matches(name.rpartition('.')[2].lower(), by_part, 2, 0.75)
             for known in by_part[part]]
    return f' (did you mean {" or ".join(dict.fromkeys(found))}?)' if found else ''


def _nearest_file(path: Path) -> str:
    """As :func:`nearest`, of the library's configs and those in the same folder."""
    known = [other for folder in (path.parent, config_root()) if folder.is_dir()
             for other in (folder.rglob('*.py') if folder == config_root() else folder.glob('*.py'))]
    close = get_close_matches(path.stem, [other.stem for other in known], 2, 0.8)
    found = sorted({str(other) for other in known if other.stem in close})
    return f' (did you mean {" or ".join(found[:3])}?)' if found else ''


def _close(name: str, read: frozenset[str]) -> list[str]:
    """The name that is almost ``name``, of those that somebody reads, if ``name`` itself is none."""
    return [] if name in read else get_close_matches(name, read, 1, 0.85)


def _set_too_late(path: Path, text: str) -> list[str]:
    """Names that the config at ``path`` sets and does not use, and that what it inherits from has used before.

    Args:
        path: The file.
        text: Its text behind those of the files that it inherits from, as MMEngine puts them together.
    """
    tree = ast.parse(path.read_text('utf-8'))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    names = [target.id for line in tree.body if isinstance(line, ast.Assign) for target in line.targets
             if isinstance(target, ast.Name) and target.id not in used | READ_NAMES | {'_base_'}]
    return [name for name in dict.fromkeys(names)
            if len(re.findall(rf'^{name} *=', text, re.MULTILINE)) > names.count(name)]


def _set_option(cfg: Config, key: str, value: Any) -> list[str]:
    """Set one value; returns warnings.

    Raises:
        UserError: ``key`` leads through a value that holds no others, or to an entry that a list does not have.
    """
    node, *parts = cfg, *key.split('.')
    warnings = []
    if parts[0] not in READ_NAMES:
        why = 'is used only while the file is read, so set what is made of it' if parts[0] in cfg else (
            f'is a name that neither the config nor MMEngine has{nearest(parts[0], READ_NAMES | cfg.keys())}')
        warnings.append(f'--cfg-options {key} changes nothing: {parts[0]} {why}.')
    for depth, part in enumerate(parts):
        last, place = depth == len(parts) - 1, '.'.join(parts[:depth])
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                raise UserError(f'--cfg-options {key}: {place} is a list of {len(node)}, which has no entry {part}: '
                                f'count from 0 to {len(node) - 1}.' if node else
                                f'--cfg-options {key}: {place} is an empty list: set it as a whole.')
            part = int(part)
        elif not isinstance(node, dict | Config):
            raise UserError(f'--cfg-options {key}: {place} is {node!r}, which has nothing named {part}: set {place} as '
                            'a whole, or correct the name.')
        elif part not in node:
            if depth and (near := nearest(part, node)):
                warnings.append(f'--cfg-options {key}: {place} has no {part} yet{near}.')
            if not last:
                node[part] = ConfigDict()
        if last:
            node[part] = value
        else:
            node = node[part]
    return warnings


def _with_names(value: Any) -> Any:
    """A config value where types that are paths of classes, as MMEngine writes classes, are registered names."""
    if isinstance(value, dict):
        return {key: _registered_name(item) if key == 'type' and isinstance(item, str) and re.fullmatch(
            r'\w+(\.\w+){2,}', item) else _with_names(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_with_names, value))
    return value


def _registered_name(path: str) -> str:
    """``'mmtinyvit.TinyViT'`` for ``'mmtinyvit.models.backbones.TinyViT'``; ``path`` itself if it is not registered."""
    try:
        found = get_object_from_string(path)
    except (ImportError, AttributeError):
        return path  # MMEngine refuses it when it builds it
    waiting = [root for _, root in inspect.getmembers(roots, lambda item: isinstance(item, Registry))]
    for registry in waiting:
        waiting.extend(registry.children.values())
        for name, part in registry.module_dict.items():
            if part is found:
                return f'{registry.scope}.{name}'
    return path


def saves_logits(cfg: Config) -> bool:
    """Whether the config's ``test_cfg`` is a saving loop, as in ``configs/teachers/``."""
    return (cfg.get('test_cfg') or {}).get('type') == SAVING_LOOP


def saving_loop(cfg: Config, name: str | Path) -> ConfigDict:
    """The settings of the saving loop in the config ``name``.

    Raises:
        UserError: It saves nothing.
    """
    if not saves_logits(cfg):
        raise UserError(f"{name} does not save logits: its test_cfg must be dict(type='{SAVING_LOOP}', ...), as in "
                        'configs/teachers/.')
    if 'store' in cfg:  # as a recipe names it
        cfg.test_cfg.setdefault('store', cfg.store)
    return cfg.test_cfg
