"""Which part of a saving a job is."""
import pytest

from mmtinyvit.cli.sharing_flags import find_part
from mmtinyvit.errors import UserError


@pytest.mark.parametrize('text, environ, part', [
    ('3/8', {}, (3, 8)),
    ('3/8', dict(SLURM_ARRAY_TASK_ID='1', SLURM_ARRAY_TASK_COUNT='2'), (3, 8)),
    ('', dict(SLURM_ARRAY_TASK_ID='5', SLURM_ARRAY_TASK_COUNT='8'), (5, 8)),
    ('', dict(SLURM_ARRAY_TASK_ID='8', SLURM_ARRAY_TASK_COUNT='8', SLURM_ARRAY_TASK_MIN='1'), (7, 8)),
    ('', dict(SLURM_ARRAY_TASK_ID='15', SLURM_ARRAY_TASK_COUNT='4', SLURM_ARRAY_TASK_MIN='0',
              SLURM_ARRAY_TASK_STEP='5'), (3, 4)),
    ('/9', dict(JOB_COMPLETION_INDEX='0'), (0, 9)),
    ('/9', dict(SKYPILOT_JOB_RANK='4'), (4, 9)),
])
def test_found(text, environ, part):
    assert find_part(text, environ) == part


@pytest.mark.parametrize('text, environ, words', [
    ('8/8', {}, '--part 8/8 does not exist: the parts are numbered from 0 to N - 1'),
    ('0/0', {}, '--part 0/0 does not exist'),
    ('config.py', {}, '--part config.py is not I/N, /N or nothing'),
    ('-1/8', {}, 'is not I/N'),
    ('', {}, 'needs SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX or SKYPILOT_JOB_RANK in the environment'),
    ('', dict(JOB_COMPLETION_INDEX='0'), 'does not tell how many there are: write --part /N'),
    ('/3', dict(JOB_COMPLETION_INDEX='3'), '--part 3/3 does not exist'),
])
def test_refused(text, environ, words):
    with pytest.raises(UserError, match=words):
        find_part(text, environ)
