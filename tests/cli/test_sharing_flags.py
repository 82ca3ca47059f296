"""Which part of a saving a job is."""
import argparse

import pytest

from mmtinyvit.cli.sharing_flags import add_sharing_flags, find_part, refuse_flags_of_ray
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
    ('/64', dict(SLURM_ARRAY_TASK_ID='17', SLURM_ARRAY_TASK_COUNT='1', SLURM_ARRAY_TASK_MIN='17'), (17, 64)),  # again
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
    ('/3', dict(JOB_COMPLETION_INDEX='x'), 'JOB_COMPLETION_INDEX=x in the environment is not a number'),
    ('', dict(SLURM_ARRAY_TASK_ID='1', SLURM_ARRAY_TASK_COUNT='two'), 'SLURM_ARRAY_TASK_COUNT=two in the env'),
    ('', dict(SLURM_ARRAY_TASK_ID='7', SLURM_ARRAY_TASK_COUNT='3', SLURM_ARRAY_TASK_MIN='3', SLURM_ARRAY_TASK_MAX='9'),
     'not evenly numbered .3 from 3 to 9.'),
])
def test_refused(text, environ, words):
    with pytest.raises(UserError, match=words):
        find_part(text, environ)


def test_resources_of_an_actor():
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_sharing_flags(parser)
    given = parser.parse_args(['--ray', '--gpus-per-actor', '0.25', '--cpus-per-actor', '2'])
    assert (given.gpus_per_actor, given.cpus_per_actor) == (0.25, 2)
    for text in ('nan', 'inf', '1.5', '1e-5', '-1', ''):
        with pytest.raises(argparse.ArgumentError, match='is not a whole number, or a part of one such as 0.25'):
            parser.parse_args(['--ray', f'--gpus-per-actor={text}'])
    with pytest.raises(UserError, match='--cpus-per-actor says what Ray is to do: add --ray, or leave it out'):
        refuse_flags_of_ray(parser.parse_args(['--cpus-per-actor', '2']))
