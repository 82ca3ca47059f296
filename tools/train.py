"""Train a model: distil from a store, finetune, or train from scratch.

The same as ``mmtinyvit train``.

    python tools/train.py configs/tinyvit/distill_in21k.py
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.train import ON_INTERRUPT, main

if __name__ == '__main__':
    run_command(main, ON_INTERRUPT)
