"""Convert TinyViT checkpoints between the names of the original (Cream), timm, mmpretrain and this library.

The same as ``mmtinyvit convert tiny-vit``.

    python tools/model_converters/convert_tiny_vit.py tiny_vit_5m_22kto1k_distill.pth tiny_vit_5m_timm.safetensors \\
        --to timm

The layout of the source is recognised; checkpoints of a training and published files are taken, too. This library loads
every layout as it is: convert for other programs. Nothing in the input is executed.
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.convert import main

if __name__ == '__main__':
    run_command(lambda: main(conversion='tiny-vit'))
