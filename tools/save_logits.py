"""Save a teacher's sparse logits for every view of every image, once.

The same as ``mmtinyvit save``.

    python tools/save_logits.py configs/teachers/clip_vit_l14_in21k.py clip_vit_large_patch14_22k_mmtinyvit.pth \\
        --out data/in21k_logits --views 0:90

Stop it at any time and start it again: it does only what is missing. Any number of processes of one job may work on a
store, and with ``--join`` any number of jobs: a Slurm array, workers that come and go. Where a file system has no
locks, give each job its ``--part``, or write to a URL. ``--ray`` hands the work to a Ray cluster.
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.save import ON_INTERRUPT, main

if __name__ == '__main__':
    run_command(main, ON_INTERRUPT)
