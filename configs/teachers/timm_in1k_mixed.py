"""The teacher of timm_in1k.py on images mixed by Mixup and CutMix: 300 views, top 10.

    tools/dist_save_logits.sh configs/teachers/timm_in1k_mixed.py 8 --amp

Every image is decoded twice, once as itself and once as a partner.
Cost and result: not run here.
"""
_base_ = 'timm_in1k.py'

store = 'data/in1k_mixed_logits'
test_cfg = dict(mixing=dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5))
