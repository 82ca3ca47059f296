"""Find a small TinyViT of your own: contract a large one, step by step, by what its candidates learn from a store.

    python tools/contract.py configs/tinyvit/tiny_vit_21m_distill_in1k.py --params 5.4M --throughput 1.5x --out DIR

The flags are in mmtinyvit/cli/contract.py.
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.contract import ON_INTERRUPT, main

if __name__ == '__main__':
    run_command(main, ON_INTERRUPT)
