"""RetinaNet with Mobile-Former-294M on COCO, 12 epochs.

    tools/dist_train.sh projects/mobile_former/configs/retinanet_mobile_former_294m_fpn_1x_coco.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/mobile_former_294m_in1k/epoch_450.pth

The schedule is that of the detectors with TinyViT.
Cost and result: not run here, and none published for this schedule.
"""
_base_ = [
    '../../../configs/_base_/detection/retinanet.py', '../../../configs/_base_/detection/coco_boxes.py',
    '../../../configs/_base_/detection/schedule_1x.py'
]
custom_imports = dict(imports=['projects.mobile_former.mobile_former'])

model = dict(
    backbone=dict(
        _delete_=True, type='mmtinyvit.MobileFormer', arch='294m', out_indices=(0, 1, 2, 3), norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mobile_former_294m_in1k/epoch_450.pth',
                      prefix='backbone.')),
    neck=dict(in_channels=[24, 48, 128, 192]))
