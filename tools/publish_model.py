"""Write a trained student as a file for other people.

The same as ``mmtinyvit publish``.

    python tools/publish_model.py configs/tinyvit/tiny_vit_5m_distill_in1k.py \\
        work_dirs/tiny_vit_5m_distill_in1k/epoch_300.pth published/tiny_vit_5m_distill_in1k.safetensors

The result has the first digits of its SHA-256 in its name, holds the student alone, and says where it comes from:
recipe, store, teacher and versions. `mmtinyvit.get_model(file)` needs nothing else.
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.publish import main

if __name__ == '__main__':
    run_command(main)
