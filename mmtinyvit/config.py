"""Configs as files: found, read, and asked whether they save logits. Every part of the library reads them here."""
import sys
from pathlib import Path

from mmengine.config import Config, ConfigDict

from .compat import OPTIONAL, require_library
from .errors import UserError
from .paths import config_root

__all__ = ['read_config', 'saves_logits', 'saving_loop']

SAVING_LOOP = 'mmtinyvit.SaveLogitsLoop'


def read_config(name: str | Path) -> Config:
    """Read a config file, or one of the library's by its path within ``configs``.

    Raises:
        UserError: There is no such file, it is not a config, or it is one of mmdet or mmseg, whose models cannot be
            built here.
    """
    root = str(config_root().parent)
    if root not in sys.path:
        sys.path.append(root)  # for the custom_imports of projects/
    path = next((path for path in (Path(name), config_root().parent / name, config_root() / name) if path.is_file()),
                None)
    if path is None:
        raise UserError(f'There is no config {name}: give the path of a config file; those of the library are '
                        f'in {config_root()}.')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is a program: anything may go wrong in it
        cause = error
        while cause:
            for library in OPTIONAL:
                if library in str(cause):
                    require_library(library, f'The config {path}')
            cause = cause.__cause__ or cause.__context__
        raise UserError(f'The config {path} cannot be read ({type(error).__name__}: {error}): correct it.') from error
    if cfg.get('default_scope') in OPTIONAL:
        require_library(cfg.default_scope, f'The config {path}')
    # the runner formats the config's text several times; without yapf that costs milliseconds instead of seconds
    return Config(cfg.to_dict(), filename=cfg.filename, format_python_code=False)


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
