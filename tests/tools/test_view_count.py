"""How many views plan recommends, against the room and the time that there are."""
import json
import shutil

import pytest
from tiny_flow import saving

from mmtinyvit.apis.view_count import free_bytes, recommend_views
from mmtinyvit.errors import UserError


@pytest.mark.parametrize('room, hours, views, limit', [
    (9000, None, 90, 'wanted'), (8999, None, 89, 'room'), (100, None, 1, 'room'), (99, None, 0, 'room'),
    (9000, 4.5, 45, 'time'), (1000, 4.5, 10, 'room'), (10**9, 100, 90, 'wanted')])
def test_as_many_as_there_is_room_and_time_for(room, hours, views, limit):
    advice = recommend_views(90, 9000, 9., room, hours)
    assert advice == dict(views=views, bytes=100 * views, hours=pytest.approx(views / 10), limit=limit)


@pytest.mark.parametrize('room, hours', [(0, None), (1, 0), (1, -1), (1, float('nan'))])
def test_limits_that_are_none(room, hours):
    with pytest.raises(UserError, match='--disk and --hours must be positive'):
        recommend_views(90, 9000, 9., room, hours)


def test_what_is_free(tmp_path):
    assert free_bytes(tmp_path / 'not' / 'there') == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    with pytest.raises(UserError, match='How much room there is at s3://b/s is not known: say it with --disk'):
        free_bytes('s3://b/s')


def test_from_the_command_line(run_tool, photos, teacher_checkpoint, tmp_path):
    saving(photos, tmp_path / 'store', tmp_path / 'work').dump(tmp_path / 'teacher.py')
    plan = ('plan', tmp_path / 'teacher.py', teacher_checkpoint, '--images', 3, '--views', 4)
    said = json.loads(run_tool('logit_store', *plan, '--json').out)
    assert said['recommended_views']['views'] == 4 and said['recommended_views']['limit'] == 'wanted'
    assert said['recommended_views']['bytes'] == said['recommended']['total_bytes']
    half = str(said['recommended']['total_bytes'] / 2 / 2**30)
    ended = run_tool('logit_store', *plan, '--disk', half)
    assert 'recommended views' in ended.out and '2 (what 0.0 GiB hold)' in ended.out
    assert 'must be positive' in run_tool('logit_store', *plan, '--hours', 0).sentence
