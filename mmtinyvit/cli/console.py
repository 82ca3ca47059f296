"""The console command ``mmtinyvit``: a command a module of this package, imported when it is called.

A module has ``build_parser()``, the flags, and ``main(argv=None)``, the command; ``ON_INTERRUPT``, if it has one, is
what to say after Ctrl-C. The scripts in ``tools/`` call the same functions.
"""
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from types import ModuleType

from mmtinyvit.version import __version__

from .command import run_command

__all__ = ['COMMANDS', 'NAMES', 'command_module', 'console']

PROGRAM = 'mmtinyvit'
COMMANDS = {
    'The whole job': {
        'distill': 'from photos and a teacher to a student, in one line',
    },
    'Step by step': {
        'index': 'list images once: folders, tars, zip files, shards, buckets',
        'save': "save a teacher's logits for every view of every image",
        'train': 'distil from a store, finetune, or train from scratch',
        'test': 'test a checkpoint',
        'contract': 'find a small TinyViT within limits of size and speed',
        'views': 'draw views with what the teacher said about them',
        'store': 'plan, info, verify, stats, repair, copy, merge ... a store',
    },
    'Trained models': {
        'few-shot': 'few-shot accuracy of frozen features',
        'export': 'write ONNX, compared with PyTorch',
        'publish': 'write a student as one file, with its provenance',
        'download': 'fetch published checkpoints',
        'convert': 'to and from the names of timm, Cream, mmpretrain, MAE',
    },
    'More': {
        'doctor': 'check machine, folders, and whether a config fits',
        'demo': 'the whole flow on handwriting, in minutes',
        'tinymim': "TinyMIM's chain of trainings: L to B to S to T",
        'shards': 'parquet files with images into tar shards',
    },
}
NAMES = [name for group in COMMANDS.values() for name in group]


def command_module(name: str) -> ModuleType:
    """The module of a command, imported now."""
    return import_module(f'mmtinyvit.cli.{name.replace("-", "_")}')


def help_text() -> str:
    """One screen of 24 lines: all commands by group."""
    width = max(map(len, NAMES))
    lines = [f'usage: {PROGRAM} COMMAND ...     ({PROGRAM} COMMAND --help has its flags)',
             'Distil small vision transformers from large teachers.']
    for group, commands in COMMANDS.items():
        lines += [f'{group}:', *(f'  {name:{width}}  {what}' for name, what in commands.items())]
    return '\n'.join(lines)


def console(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit, as :func:`~mmtinyvit.cli.command.run_command`.

    Args:
        argv: The words behind the program; by default those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if '_ARGCOMPLETE' in os.environ:
        from .completion import complete
        complete(PROGRAM, NAMES, command_module)
    name, *rest = words or ['--help']
    if name in ('-h', '--help', 'help'):
        print(help_text())
    elif name == '--version':
        print(f'{PROGRAM} {__version__}')
    elif name in NAMES:
        sys.argv[:] = [f'{PROGRAM} {name}', *rest]  # argparse takes the first word for the program's name
        module = command_module(name)
        run_command(partial(module.main, rest), getattr(module, 'ON_INTERRUPT', 'Interrupted.'))
    else:
        near = get_close_matches(name, NAMES, 2, 0.6)
        meant = f' (did you mean {" or ".join(near)}?)' if near else ''
        print(f'Error: {PROGRAM} has no command {name}{meant}: {PROGRAM} --help lists them.', file=sys.stderr)
        sys.exit(2)
