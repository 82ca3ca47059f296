"""Convert vision transformers between the names of MAE and timm and those of mmpretrain.

The same as ``mmtinyvit convert mae``.

    python tools/model_converters/mae_to_mmpretrain.py mae_pretrain_vit_base.pth mae_base_mmpretrain.pth

Takes the checkpoints of facebookresearch/mae, of the released TinyMIM, of timm, of mmpretrain's MAE, and of this
library's trainings. The result is a plain state dict of the network alone, without decoder, necks and heads: for
`load_from` of an ImageClassifier, or with `--to timm` for timm. Nothing in the input is executed. Teachers of TinyMIM
need no conversion.
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.convert import main

if __name__ == '__main__':
    run_command(lambda: main(conversion='mae'))
