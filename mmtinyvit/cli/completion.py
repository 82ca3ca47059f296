"""Completion of the console command in bash and zsh, by argcomplete.

    eval "$(register-python-argcomplete mmtinyvit)"

Each Tab starts the program, which imports the one command that is being typed and none of the libraries behind it.
"""
import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import get_args

import argcomplete
from argcomplete.completers import FilesCompleter

from mmtinyvit.paths import config_root

__all__ = ['complete']


def complete(program: str, names: Sequence[str], command_module: Callable[[str], ModuleType]) -> None:
    """Write what may follow the words on the command line that the shell shows, and exit.

    Args:
        program: The console command.
        names: Its commands.
        command_module: Imports the module of one, which has ``build_parser()``.
    """
    words = argcomplete.lexers.split_line(os.environ['COMP_LINE'], int(os.environ['COMP_POINT']))[3]
    before = int(os.environ['_ARGCOMPLETE'])  # words that are the program
    if words[before:] and words[before] in names:
        os.environ['_ARGCOMPLETE'] = str(before + 1)
        parser = command_module(words[before]).build_parser()
    else:
        parser = argparse.ArgumentParser(prog=program)
        parser.add_argument('command', choices=names)
    for action in _actions(parser):
        if action.dest in ('config', 'model'):
            action.completer = ConfigCompleter()
        elif action.dest == 'settings':
            action.completer = job_settings
        elif action.dest == 'names':
            action.completer = published_models
    argcomplete.autocomplete(parser, always_complete_options=False)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)


class ConfigCompleter(FilesCompleter):
    """Files, and configs of the installed library by their path within ``configs/``."""

    def __call__(self, prefix: str, **context: object) -> list[str]:
        root = config_root()
        ours = [path.relative_to(root).as_posix() for path in root.glob('[!_]*/**/*.py')]
        return [*super().__call__(prefix, **context), *(name for name in ours if name.startswith(prefix))]


def job_settings(prefix: str, **context: object) -> list[str]:
    """The keys of ``mmtinyvit distill``; behind one, the students of this library, and files where it takes some."""
    from .job.settings import SETTINGS
    name, equals, value = prefix.partition('=')
    if not equals:
        return [f'{name}=' for name in SETTINGS]
    ours = [f'tinyvit-{size}' for size in ('5m', '11m', '21m')] if name == 'student' else []
    kind = SETTINGS[name].type if name in SETTINGS else None
    files = FilesCompleter()(value) if str in (kind, *get_args(kind)) else []
    return [f'{name}={each}' for each in (*ours, *files)]


def published_models(**context: object) -> list[str]:
    """The names that ``mmtinyvit download`` knows."""
    from mmtinyvit.zoo.index import find_entries
    return [entry.name for entry in find_entries()]
