"""The teacher's top 5 of 10 classes for ten views of every training image.

    python tools/save_logits.py configs/demo/save_logits.py work_dirs/demo/teacher/epoch_12.pth
"""
_base_ = 'teacher.py'

test_dataloader = dict(
    _delete_=True,
    batch_size=128,
    num_workers=1,
    dataset=dict(type='mmtinyvit.ImageFolder', data_root=_base_.data_root, data_prefix='train',
                 pipeline=_base_.train_pipeline))
test_cfg = dict(type='mmtinyvit.SaveLogitsLoop', views=(0, _base_.num_views), topk=5, codec='compact')
