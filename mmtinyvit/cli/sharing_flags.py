"""How a saving is shared out: by ``--part``, which a scheduler's environment may say, or by ``--ray``."""
import argparse
import os
import re
from collections.abc import Mapping

from mmtinyvit.errors import UserError

__all__ = ['add_sharing_flags', 'find_part', 'parse_actors', 'parse_resource', 'refuse_flags_of_ray']

_SLURM = 'SLURM_ARRAY_TASK_'
_INDICES = (f'{_SLURM}ID', 'JOB_COMPLETION_INDEX', 'SKYPILOT_JOB_RANK')  # the number of a job in its array
_PART_HELP = ('save part I of N (from 0) without a lock: write I/N, or /N for the I, or nothing for the I and N, of '
              'SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT, JOB_COMPLETION_INDEX (Kubernetes), SKYPILOT_JOB_RANK')


def parse_actors(text: str) -> tuple[int, int]:
    """``'2:8'`` as ``(2, 8)``, and ``'4'`` as ``(4, 4)``, for argparse."""
    least, _, most = text.partition(':')
    most = most or least
    if not (least.isdecimal() and most.isdecimal() and int(least) <= int(most) and int(most)):
        raise argparse.ArgumentTypeError(f'{text!r} is not MIN:MAX with MIN <= MAX and MAX from 1, for example 1:8')
    return int(least), int(most)


def parse_resource(text: str) -> float:
    """What an actor gets of a resource, as Ray takes it: ``'2'``, or a part such as ``'0.25'``, for argparse."""
    if not re.fullmatch(r'\d+(\.0*)?|0?\.\d{1,4}', text, re.ASCII):
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number, or a part of one such as 0.25')
    return float(text)


def add_sharing_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of parts and of Ray."""
    parser.add_argument('--part', nargs='?', const='', metavar='I/N', help=_PART_HELP)
    parser.add_argument('--ray', nargs='?', const='', metavar='ADDRESS',
                        help='run the teacher in actors of the Ray cluster at ADDRESS, or auto (default: RAY_ADDRESS, '
                        'else a cluster of this machine alone)')
    parser.add_argument('--actors', type=parse_actors, metavar='MIN:MAX',
                        help='with --ray: refuse to begin where fewer than MIN find room, and use up to MAX, also when '
                        'the cluster grows (default: 1, and as many as find room now)')
    parser.add_argument('--gpus-per-actor', type=parse_resource, metavar='G',
                        help='with --ray (default: 1, or 0 without GPUs)')
    parser.add_argument('--cpus-per-actor', type=parse_resource, metavar='C', help='with --ray (default: 1)')


def refuse_flags_of_ray(args: argparse.Namespace) -> None:
    """Raises :class:`UserError` if there are flags that only Ray heeds, and no ``--ray``."""
    for flag in ('--actors', '--gpus-per-actor', '--cpus-per-actor'):
        if args.ray is None and getattr(args, flag.strip('-').replace('-', '_')) is not None:
            raise UserError(f'{flag} says what Ray is to do: add --ray, or leave it out.')


def find_part(text: str, environ: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Number and count of a part.

    Args:
        text: ``'I/N'``; ``'/N'`` or ``''`` leave what is left out to the environment. Only Slurm has a count there.
        environ: The environment.

    Raises:
        UserError: It is none of these, the environment lacks what is left out, or there is no such part.
    """
    match = re.fullmatch(r'(\d*)/(\d+)|', text)
    if not match:
        raise UserError(f'--part {text} is not I/N, /N or nothing: write for example --part 3/8, and nothing else '
                        'behind it that could be taken for it.')
    index, count = match[1] or None, match[2]
    if index is None:
        index, count = _from_environment(environ, count)
    if int(index) >= int(count):
        raise UserError(f'--part {index}/{count} does not exist: the parts are numbered from 0 to N - 1, so write N as '
                        'the number of jobs.')
    return int(index), int(count)


def _from_environment(environ: Mapping[str, str], count: str | None) -> tuple[str, str]:
    """What ``--part`` leaves out. With a count, the job's number is I; without, its place in Slurm's array is."""
    name = next((name for name in _INDICES if environ.get(name)), None)
    if name is None:
        raise UserError('--part without a number needs SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX or SKYPILOT_JOB_RANK '
                        'in the environment, and none is set: write --part I/N.')
    index = _number(environ, name)
    if count is not None:
        return str(index), count
    if not (name.startswith(_SLURM) and environ.get(f'{_SLURM}COUNT')):
        raise UserError('The environment numbers this job but does not tell how many there are: write --part /N.')
    jobs, first, step = (_number(environ, f'{_SLURM}{field}', default)
                         for field, default in (('COUNT', 1), ('MIN', 0), ('STEP', 1)))
    last = _number(environ, f'{_SLURM}MAX', first + (jobs - 1) * step)
    if last != first + (jobs - 1) * step or (index - first) % max(step, 1):
        raise UserError(f'The jobs of this Slurm array are not evenly numbered ({jobs} from {first} to {last}), so it '
                        'is not known which part each one is: number them 0 to N - 1, or write --part /N.')
    return str((index - first) // max(step, 1)), str(jobs)


def _number(environ: Mapping[str, str], name: str, default: int = 0) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal():
        raise UserError(f'{name}={text} in the environment is not a number: write --part I/N.')
    return int(text)
