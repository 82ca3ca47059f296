"""TinyMIM-T from TinyMIM-S, block 12 (https://arxiv.org/abs/2301.01296): the last step of the chain, 300 epochs.

    tools/dist_train.sh configs/tinymim/tinymim_small_to_tiny.py 8 --amp

The teacher is the student of tinymim_base_to_small.py, with the 16 heads that its last block was trained with, and so
the student's last block has 16. The release has 12 in the student and 6 in the teacher, which do not fit each other:
see docs/en/tinymim.md.
Cost: not run here; the original's total batch is 4096.
Result: not run here; published: 75.8 top-1 on ImageNet-1K after finetuning.
"""
_base_ = 'mae_large_to_base.py'

last_heads = 16  # of the teacher's last block, as it was trained, and of the student's
model = dict(
    backbone=dict(
        arch='deit-tiny',
        layer_cfgs=[
            *[dict(num_heads=6, drop_path_rate=0.1)] * 11,
            dict(num_heads=last_heads, drop_path_rate=0.),
        ]),
    teacher=dict(
        backbone=dict(
            arch='deit-small',
            layer_cfgs=[*[dict(num_heads=6)] * 11, dict(num_heads=last_heads)]),
        checkpoint='work_dirs/tinymim_base_to_small/epoch_300.pth',
        block=12))
