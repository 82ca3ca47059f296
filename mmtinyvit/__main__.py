"""``python -m mmtinyvit``, also for torchrun.

    torchrun --nproc_per_node 8 -m mmtinyvit train CONFIG --launcher pytorch
"""
from .cli.console import console

__all__: list[str] = []

if __name__ == '__main__':
    console()
