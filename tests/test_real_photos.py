"""The flow on real photos with a real teacher; `benchmarks/claims.py` is the long form."""
import os
from pathlib import Path

import numpy as np
import pytest
from tiny_flow import scalars

from mmtinyvit.store import LogitStore

pytestmark = pytest.mark.realdata
DATA = os.environ.get('MMTINYVIT_DATA')
EVERY = 75  # 100 of the 7,500 photos
CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'imagenette'


@pytest.fixture(scope='module')
def weights():
    if not DATA:
        pytest.skip('MMTINYVIT_DATA is not set')
    return next(Path(DATA, 'teacher_mobilenetv2').glob('*.pth'))


def test_save_check_and_distil(weights, tmp_path, run_tool):
    store, subset = tmp_path / 'store', str(list(range(0, 7500, EVERY))).replace(' ', '')
    saved = run_tool('save_logits', CONFIGS / 'save_logits.py', weights, '--out', store, '--views', '0:2', '--work-dir',
                     tmp_path / 'saving', '--cfg-options', f'test_dataloader.dataset.indices={subset}',
                     'test_dataloader.num_workers=0', 'default_scope=mmpretrain')
    assert saved.status == 0, saved.err

    # the real teacher is right about most of the views, among ImageNet's 1,000 classes
    opened = LogitStore(store)
    assert (opened.num_samples, opened.num_classes, opened.topk) == (100, 1000, 10)
    index = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    folders = sorted(os.listdir(Path(DATA, 'imagenette96/train')))
    labels = np.array([index[folders.index(opened.key(i).split('/')[0])] for i in range(100)])
    record = opened.read_positions(1, range(100))
    first = np.take_along_axis(record.index, record.log_prob.argmax(1)[:, None], 1)[:, 0]
    assert (first == labels).mean() > .4
    assert (record.index == labels[:, None]).any(1).mean() > .7

    options = ['--cfg-options', f'test_dataloader.dataset.indices={subset}']
    checked = run_tool('logit_store', 'verify', store, '--teacher', CONFIGS / 'save_logits.py', '--checkpoint', weights,
                       '--records', 24, *options)
    assert checked.status == 0, checked.err

    trained = run_tool('train', CONFIGS / 'distill.py', '--work-dir', tmp_path / 'student', '--no-validate',
                       '--cfg-options', f'train_dataloader.dataset.indices={subset}',
                       f'store={store}', 'train_cfg.max_epochs=8',
                       'param_scheduler.1.end=8', 'param_scheduler.0.end=4', 'train_dataloader.batch_size=20',
                       'default_hooks.logger.interval=1', 'train_dataloader.num_workers=0',
                       'train_dataloader.persistent_workers=False')
    assert trained.status == 0, trained.err
    losses = [line['loss'] for line in scalars(tmp_path / 'student') if 'loss' in line]
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 1
