"""TinyViT-21M finetuned on ImageNet-1K at 512 pixels (https://arxiv.org/abs/2207.10666), after 384.

    tools/dist_train.sh configs/tinyvit/tiny_vit_21m_finetune_in1k_512.py 8 --amp \
        --cfg-options load_from=work_dirs/tiny_vit_21m_finetune_in1k_384/epoch_30.pth

The windows grow with the image, and the attention biases of the checkpoint are interpolated. The test image is resized
as a whole, without a crop.
Cost: not run here; the original used 8 GPUs with 4 x 32 images each. 27.0 G multiply-adds an image.
Result: not run here; published: 86.5 top-1.
"""
_base_ = 'tiny_vit_21m_finetune_in1k_384.py'

image_size = 512
model = dict(backbone=dict(window_sizes=(16, 16, 32, 16)))
view_transforms = _base_.view_transforms
view_transforms[0].scale = image_size
replay = dict(_base_.replay, transforms=view_transforms)
train_pipeline = [dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (image_size, image_size)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
