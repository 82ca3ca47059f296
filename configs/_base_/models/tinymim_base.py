# ViT-Base as a student of TinyMIM (https://arxiv.org/abs/2301.01296): 12 heads, in the adaptive last block 16;
# drop path 0.1 in all blocks but the last; fixed sine-cosine positions. A recipe adds the teacher.
model = dict(
    type='mmtinyvit.TinyMIM',
    backbone=dict(
        type='mmpretrain.MAEViT',
        arch='deit-base',
        layer_cfgs=[
            *[dict(num_heads=12, drop_path_rate=0.1)] * 11,
            dict(num_heads=16, drop_path_rate=0.),
        ]),
    init_cfg=[
        dict(type='Xavier', distribution='uniform', layer='Linear'),
        dict(type='Constant', layer='LayerNorm', val=1., bias=0.),
    ])
