"""A store in parts: a few views of it, views that come later, and images that come later."""
import shutil

from mmengine.runner import Runner
from tiny_flow import contents, distilling, recorded, saving, write_photos

from mmtinyvit.store import LogitStore
from mmtinyvit.store.admin.merge import merge_stores


def save(photos, store, work, checkpoint, **loop) -> dict:
    return Runner.from_cfg(saving(photos, store, work, checkpoint, **loop)).test()


def test_a_copy_of_some_views(tmp_path, photos, saved_store):
    """Manifest, samples and view 1: what the rsync command of the documentation copies."""
    part = tmp_path / 'part'
    shutil.copytree(saved_store, part, ignore=shutil.ignore_patterns('view-0000', '.lock'))
    cfg = distilling(photos, part, tmp_path / 'work', epochs=2)
    cfg.experiment_name = 'part'
    Runner.from_cfg(cfg).train()
    assert {view for _, view, *_ in recorded(tmp_path / 'work')} == {1}
    assert '2 epochs read 1 stored views' in next((tmp_path / 'work').glob('*/*.log')).read_text()


def test_views_that_come_later(tmp_path, photos, teacher_checkpoint, saved_store):
    assert save(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint, views=(1, 2))['samples'] == 14
    assert save(photos, tmp_path / 'store', tmp_path / 'work', teacher_checkpoint, views=(0, 2))['samples'] == 14
    assert contents(tmp_path / 'store') == contents(saved_store)


def test_images_that_come_later(tmp_path, teacher_checkpoint, photos):
    """Saved on their own, merged, and trained on in the order of the folders, where new and old alternate."""
    root = shutil.copytree(photos, tmp_path / 'photos')
    save(root, tmp_path / 'old', tmp_path / 'work', teacher_checkpoint)
    new = write_photos(tmp_path / 'new_photos', 6, seed=3)
    for path in new.rglob('*.png'):
        path.rename(path.with_name(path.name.replace('photo', 'new')))
    save(new, tmp_path / 'new', tmp_path / 'work', teacher_checkpoint)
    assert merge_stores([tmp_path / 'old', tmp_path / 'new'], tmp_path / 'grown').kind == 'samples'

    shutil.copytree(new, root, dirs_exist_ok=True)
    cfg = distilling(root, tmp_path / 'grown', tmp_path / 'train', hook=dict(any_order=True))
    Runner.from_cfg(cfg).train()
    assert [view for _, view, *_ in recorded(tmp_path / 'train')] == [0] * 20 + [1] * 20
    keys = [LogitStore(tmp_path / 'grown').key(i) for i in range(20)]
    assert keys != sorted(keys) and sorted(keys) == sorted({key for _, _, key, _ in recorded(tmp_path / 'train')})
