"""Any timm model of ImageNet-1K as the teacher: 300 views, top 10. Another one is another `model_name`.

    tools/dist_save_logits.sh configs/teachers/timm_in1k.py 8 --amp

timm downloads the weights. Its mean and std are 255 times those of `timm.get_pretrained_cfg(model_name)`; the views
are 224 pixels wide, so choose a model for that size.
Cost and result: not run here.
"""
_base_ = '../_base_/imagenet1k.py'

model = dict(
    type='TimmClassifier',
    model_name='vit_large_patch14_clip_224.openai_ft_in12k_in1k',
    pretrained=True,
    data_preprocessor=dict(
        mean=[0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255],
        std=[0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255],
        to_rgb=True))

store = 'data/in1k_logits'
num_views = 300
topk = 10
train_dataloader = val_dataloader = val_evaluator = None
test_dataloader = dict(
    _delete_=True,
    batch_size=256,
    num_workers=16,
    dataset=_base_.train_dataloader.dataset)
test_cfg = dict(type='mmtinyvit.SaveLogitsLoop', views=(0, num_views), topk=topk, classes='in1k')
