"""TopFormer-T on ADE20K with crops of 448 pixels, 160,000 steps.

    tools/dist_train.sh projects/topformer/configs/topformer_tiny_448_160k_ade20k.py 8 --amp \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/topformer_tiny_in1k/epoch_300.pth

Cost: not run here.
Result: not run here; published: 32.5 mIoU, and 33.4 with 4 images on each of 8 GPUs.
"""
_base_ = 'topformer_tiny_160k_ade20k.py'

model = dict(data_preprocessor=dict(size=(448, 448)))
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale, train_pipeline[3].crop_size = (2048, 448), (448, 448)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (2048, 448)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
test_dataloader = val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
