"""How a saving is shared out: by ``--part``, which a scheduler's environment may say, or by ``--ray``."""
import argparse
import os
import re
from collections.abc import Mapping

from mmtinyvit.errors import UserError

__all__ = ['add_sharing_flags', 'find_part', 'parse_actors']

# Variables that number the jobs of an array from 0; Slurm's, which may begin elsewhere, is read by itself.
_INDICES = ('JOB_COMPLETION_INDEX', 'SKYPILOT_JOB_RANK')
_PART_HELP = ('save part I of N (from 0) without a lock: write I/N, or /N for the I, or nothing for the I and N, of '
              'SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT, JOB_COMPLETION_INDEX (Kubernetes), SKYPILOT_JOB_RANK')


def parse_actors(text: str) -> tuple[int, int]:
    """``'2:8'`` as ``(2, 8)``, and ``'4'`` as ``(4, 4)``, for argparse."""
    least, _, most = text.partition(':')
    most = most or least
    if not (least.isdecimal() and most.isdecimal() and int(least) <= int(most) and int(most)):
        raise argparse.ArgumentTypeError(f'{text!r} is not MIN:MAX with MIN <= MAX and MAX from 1, for example 1:8')
    return int(least), int(most)


def add_sharing_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of parts and of Ray."""
    parser.add_argument('--part', nargs='?', const='', metavar='I/N', help=_PART_HELP)
    parser.add_argument('--ray', nargs='?', const='', metavar='ADDRESS',
                        help='run the teacher in actors of the Ray cluster at ADDRESS, or auto (default: RAY_ADDRESS, '
                        'else a cluster of this machine alone)')
    parser.add_argument('--actors', type=parse_actors, metavar='MIN:MAX',
                        help='with --ray: refuse to begin where fewer than MIN find room, and use up to MAX, also when '
                        'the cluster grows (default: 1, and as many as find room now)')
    parser.add_argument('--gpus-per-actor', type=float, metavar='G', help='with --ray (default: 1, or 0 without GPUs)')
    parser.add_argument('--cpus-per-actor', type=float, default=1, metavar='C', help='with --ray (default: 1)')


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
    if 'SLURM_ARRAY_TASK_ID' in environ:
        first, step = int(environ.get('SLURM_ARRAY_TASK_MIN', 0)), int(environ.get('SLURM_ARRAY_TASK_STEP', 1))
        index = str((int(environ['SLURM_ARRAY_TASK_ID']) - first) // step)
        count = count or environ.get('SLURM_ARRAY_TASK_COUNT')
    else:
        index = next((environ[name] for name in _INDICES if environ.get(name)), None)
    if index is None:
        raise UserError('--part without a number needs SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX or SKYPILOT_JOB_RANK '
                        'in the environment, and none is set: write --part I/N.')
    if count is None:
        raise UserError('The environment numbers this job but does not tell how many there are: write --part /N.')
    return index, count
