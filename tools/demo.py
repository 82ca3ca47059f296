"""The main job in minutes: teacher, store, a student distilled without labels, and the same student with labels.

The same as ``mmtinyvit demo``.

    python tools/demo.py

Real handwriting (scikit-learn's digits) goes through the same tools as ImageNet-21K, with configs/demo/. Finished steps
are kept: interrupt it and start it again; --fresh begins anew. --detect goes on to find the digits on larger images,
with the distilled backbone and with a random one, which needs mmdet and mmcv's compiled operators.
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.demo import ON_INTERRUPT, main

if __name__ == '__main__':
    run_command(main, ON_INTERRUPT)
