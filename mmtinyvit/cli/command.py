"""How every command reads its arguments and ends: well, with one clear sentence, or with the traceback of a bug."""
import argparse
import json
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmtinyvit.compat import check_libraries
from mmtinyvit.errors import UserError, user_sentence

__all__ = [
    'add_common_flags', 'add_config_options', 'from_zero', 'parse_range', 'positive', 'printable', 'run_command',
    'write_json'
]

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def run_command(main: Callable[[], int | None], on_interrupt: str = 'Interrupted.') -> None:
    """Run ``main`` and exit the process.

    Args:
        main: The command; returns an exit status, None for 0.
        on_interrupt: What to say after Ctrl-C: what is kept, and how to go on.
    """
    if hasattr(sys.stdout, 'reconfigure'):
        sys.stdout.reconfigure(errors='backslashreplace')  # as stderr: names of files may be more than a terminal knows
    try:
        try:
            status = main() or 0
        except ModuleNotFoundError:
            check_libraries()  # says which one is missing, and how it is installed
            raise
        except Exception as error:
            if isinstance(error, UserError) or 'mmengine.config' not in sys.modules:
                raise
            from .config_faults import config_fault
            fault = config_fault(error)
            if fault is None:
                raise
            raise fault from error
        if not status:
            _leave_together()
    except UserError as error:
        sys.stdout.flush()
        print(f'Error: {printable(user_sentence(error))}', file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        sys.stdout.flush()
        print(on_interrupt, file=sys.stderr)
        status = INTERRUPTED
    joint = os.environ.get('WORLD_SIZE', '1') != '1'  # do not wait for the collectives of processes that go on
    working = status == INTERRUPTED and any(not thread.daemon for thread in threading.enumerate()
                                            if thread is not threading.main_thread())
    if status and (joint or working):
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _leave_together() -> None:
    """Of several processes, those that are done wait for the one that still saves, and then all take down their group.

    A process that ends with the group in place may abort, and the launcher would end the others with it.
    """
    if 'torch' not in sys.modules:
        return
    from torch import distributed
    if distributed.is_available() and distributed.is_initialized():
        with suppress(RuntimeError):  # a process has died; this one has done its work
            distributed.barrier()
        distributed.destroy_process_group()


def printable(text: str) -> str:
    """``text`` without characters that a terminal would obey, such as the escapes in a file's name."""
    return ''.join(char if char.isprintable() or char == '\n' else repr(char)[1:-1] for char in text)


def parse_range(text: str) -> range:
    """``'0:90'`` as ``range(0, 90)``, for argparse."""
    first, _, end = text.partition(':')
    if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise argparse.ArgumentTypeError(f'{text!r} is not A:B with A < B, for example 0:90')
    return range(int(first), int(end))


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 1')
    return int(text)


def from_zero(text: str) -> int:
    """A whole number from 0, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 0')
    return int(text)


class _ConfigOptions(argparse.Action):
    """``KEY=VALUE`` as MMEngine reads it, which is imported only if there is one."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: list[str],
                 option_string: str | None = None) -> None:
        wrong = [value for value in values if '=' not in value]
        if wrong:
            raise argparse.ArgumentError(self, f'{wrong[0]!r} is not KEY=VALUE')
        from mmengine.config import DictAction
        try:
            DictAction(self.option_strings, self.dest)(parser, namespace, values, option_string)
        except AssertionError as error:  # brackets that do not close
            raise argparse.ArgumentError(self, str(error)) from error


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """The flag ``--cfg-options`` of every command that reads a config; ``args.cfg_options`` is a dict."""
    parser.add_argument('--cfg-options', nargs='+', action=_ConfigOptions, default={}, metavar='KEY=VALUE',
                        help='override settings of the config, for example optim_wrapper.optimizer.lr=1e-3')


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that every command with a config has, as in mmpretrain."""
    parser.add_argument('config', help='config file, or its path within the configs of the installed library')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/CONFIG)')
    add_config_options(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def write_json(path: str | Path, results: Any) -> None:
    """Write the results into the file that ``--out`` names, or raise :class:`UserError`, which holds them."""
    text = json.dumps(results, indent=2, default=lambda value: value.tolist())  # tensors, NumPy's numbers and arrays
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(f'{text}\n')
    except OSError as error:
        raise UserError(f'The results cannot be written to {path} ({error.strerror}): choose another --out; they are '
                        f'{results}.') from error
