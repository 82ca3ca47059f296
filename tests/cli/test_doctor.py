"""What the doctor says of a machine, a folder, and configs that fit or do not; and that it changes nothing."""
import json
from pathlib import Path

import pytest
from mmengine.config import Config
from tiny_flow import contents, distilling, forget_runs, saving, write_photos

from mmtinyvit.cli import doctor


@pytest.fixture
def examine(tmp_path, capsys):
    """Write a config and ask about it; returns the status and what was said by name."""
    def run(cfg: Config, *args: object) -> tuple[int, dict[str, dict]]:
        cfg.dump(tmp_path / 'config.py')
        capsys.readouterr()
        forget_runs()
        status = doctor.main([str(tmp_path / 'config.py'), *map(str, args), '--json', '--path', str(tmp_path)])
        found = json.loads(capsys.readouterr().out)
        assert found['good'] == (status == 0)
        return status, {finding['name']: finding for finding in found['findings']}

    return run


def test_a_machine(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not doctor.main(['--path', 'not/there/yet'])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    for name in ('ok  versions', 'devices', 'ok  decoder', 'ok  disk', 'ok  locks'):
        assert f' {name} ' in said
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to(capsys):
    assert doctor.main(['--path', '/proc/mmtinyvit']) == 1
    said = ' '.join(capsys.readouterr().out.replace('│', ' ').split())
    assert 'NO disk /proc cannot be written to' in said


def test_a_file_is_no_folder(capsys, tmp_path):
    (tmp_path / 'file').touch()
    assert doctor.main(['--path', str(tmp_path / 'file/in'), '--json']) == 1
    found = json.loads(capsys.readouterr().out)['findings'][-1]
    assert (found['name'], found['said']) == ('disk', f'{tmp_path}/file is no folder: name one with --path')


def test_a_student_that_fits(examine, photos, saved_store, tmp_path):
    before, work_dir = contents(saved_store), tmp_path / 'work'
    status, found = examine(distilling(photos, saved_store, work_dir, epochs=7))
    assert status == 0 and found['store']['said'].endswith('fits; views 0-1'), found
    assert found['cost']['said'].startswith('98 images (14 x 7 epochs): ')
    assert contents(saved_store) == before and not work_dir.exists()


@pytest.mark.parametrize(('change', 'name', 'said'), [
    (dict(base_seed=8), 'store', 'base_seed: 7 != 8'), (dict(store='nowhere'), 'store', 'There is no store at'),
    (dict(model=dict(type='mmtinyvit.DistilClassifier')), 'model', 'did you mean mmtinyvit.DistillClassifier')])
def test_a_student_that_does_not_fit(examine, photos, saved_store, tmp_path, change, name, said):
    store = tmp_path / change.pop('store') if 'store' in change else saved_store
    status, found = examine(distilling(photos, store, tmp_path / 'work', **change))
    assert status == 1 and not found[name]['good'] and said in found[name]['said'], found
    assert list(found)[-1] == name


def test_a_teacher_that_saves(examine, photos, saved_store, teacher_checkpoint, tmp_path):
    status, found = examine(saving(photos, tmp_path / 'store', tmp_path / 'work'), teacher_checkpoint)
    assert status == 0 and found['store']['said'].endswith('not there yet') and not (tmp_path / 'store').exists()
    assert found['cost']['said'].startswith('14 images x 2 views that are missing: ')
    before = contents(saved_store)
    status, found = examine(saving(photos, saved_store, tmp_path / 'work', views=(0, 3)), teacher_checkpoint)
    assert status == 0 and found['store']['said'].endswith('fits; views 0-1 are complete')
    assert found['cost']['said'].startswith('14 images x 1 views') and contents(saved_store) == before


def test_a_teacher_that_does_not_fit(examine, photos, saved_store, teacher_checkpoint, tmp_path):
    status, found = examine(saving(photos, tmp_path / 'store', tmp_path / 'work'))
    assert status == 1 and 'has no weights for' in found['teacher']['said']
    status, found = examine(saving(photos, saved_store, tmp_path / 'work', topk=3), teacher_checkpoint)
    assert status == 1 and 'topk' in found['store']['said'], found
    other = write_photos(tmp_path / 'other', 9)
    status, found = examine(saving(other, saved_store, tmp_path / 'work'), teacher_checkpoint)
    assert status == 1 and not found['store']['good'], found
    status, found = examine(saving(Path('nowhere'), saved_store, tmp_path / 'work'), teacher_checkpoint)
    assert status == 1 and 'needs nowhere, which does not exist' in found['data']['said']
