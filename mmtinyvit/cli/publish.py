"""Write a trained student as a file for other people.

    mmtinyvit publish configs/tinyvit/tiny_vit_5m_distill_in1k.py \\
        work_dirs/tiny_vit_5m_distill_in1k/epoch_300.pth published/tiny_vit_5m_distill_in1k.safetensors

The result has the first digits of its SHA-256 in its name, holds the student alone, and says where it comes from:
recipe, store, teacher and versions. `mmtinyvit.get_model(file)` needs nothing else.
"""
import argparse
from collections.abc import Sequence
from pathlib import Path

from .command import add_config_options
from .tables import fact_table, file_table, print_tables

__all__ = ['build_parser', 'main']


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Write a trained student as a file for other people.')
    parser.add_argument('config', help='the config that it was trained with')
    parser.add_argument('checkpoint', help='the checkpoint, file or URL')
    parser.add_argument('destination', type=Path, help='NAME.pth or NAME.safetensors; the hash is put behind NAME')
    parser.add_argument('--store', help='the store that it was distilled from, if that has moved since')
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    from mmtinyvit.apis.publish import publish  # seconds: not for --help
    from mmtinyvit.config import read_config

    cfg = read_config(args.config, args.cfg_options)
    written = publish(cfg, args.checkpoint, args.destination, args.store)
    facts = {}
    for name, value in written.meta['provenance'].items():
        if name == 'store':
            facts['store'] = value['store_id'][:12] if value else 'none: trained with labels'
            if value:
                teacher = value.get('teacher')
                facts['teacher'] = (f"{teacher['name']} {teacher['weights_hash'][:12]}" if teacher else
                                    'unknown: the store is not here (--store)')
        elif name == 'versions':
            facts['versions'] = ', '.join(f'{library} {found}' for library, found in value.items())
        else:
            facts[name] = str(value)
    print_tables(file_table(written.path, written.state_dict), fact_table(facts))
