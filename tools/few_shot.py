"""How well do frozen features serve new classes, with a few labelled images of each?

The same as ``mmtinyvit few-shot``.

    python tools/few_shot.py configs/imagenette/mobilenetv2.py MOBILENETV2.pth --way 5 --shot 1 5 20

Draws episodes of N classes with k labelled images of each (N-way, k-shot), classifies others by them, and prints the
mean accuracy with its 95 % interval. The images are the test data of the config, or the class folders below --data.
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.few_shot import main

if __name__ == '__main__':
    run_command(main)
