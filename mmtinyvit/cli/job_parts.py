"""Which part of a saving a job is, by its flag or by what its scheduler put into the environment."""
import os
import re
from collections.abc import Mapping

from mmtinyvit.errors import UserError

__all__ = ['PART_HELP', 'find_part']

# Variables that number the jobs of an array from 0; Slurm's, which may begin elsewhere, is read by itself.
_INDICES = ('JOB_COMPLETION_INDEX', 'SKYPILOT_JOB_RANK')
PART_HELP = ('save part I of N (from 0) without a lock: write I/N, or /N for the I, or nothing for the I and N, of '
             'SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT, JOB_COMPLETION_INDEX (Kubernetes), SKYPILOT_JOB_RANK')


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
