"""Convert the published CLIP-ViT-L/14 finetuned on ImageNet-22k, the teacher of the TinyViT paper.

The same as ``mmtinyvit convert clip-vit``.

    python tools/model_converters/clip_vit_to_mmtinyvit.py clip_vit_large_patch14_22k.pth \\
        clip_vit_large_patch14_22k_mmtinyvit.pth

The result is a plain state dict for configs/teachers/clip_vit_l14_in21k.py. Nothing in the input is executed.
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.convert import main

if __name__ == '__main__':
    run_command(lambda: main(conversion='clip-vit'))
