"""TinyMIM's sequential distillation: MAE ViT-L teaches B, B teaches S, S teaches T.

The same as ``mmtinyvit tinymim``.

    python tools/tinymim_chain.py checkpoints/mae_pretrain_vit_large.pth --gpus 8 --amp

Each training has its own folder under --out and begins with the student of the one before; with --finetune each student
is finetuned on ImageNet-1K as well. Interrupted, the same command goes on: finished trainings are not repeated, and an
unfinished one resumes from its last checkpoint.
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.tinymim import ON_INTERRUPT, main

if __name__ == '__main__':
    run_command(main, ON_INTERRUPT)
