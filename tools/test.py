"""Test a checkpoint on the config's test data.

The same as ``mmtinyvit test``.

    python tools/test.py configs/tinyvit/distill_in21k.py work_dirs/distill_in21k/epoch_90.pth
    python tools/test.py CONFIG CHECKPOINT --tta --show-dir pictures
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.test import main

if __name__ == '__main__':
    run_command(main)
