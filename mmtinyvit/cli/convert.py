"""Convert TinyViT checkpoints between the names of the original (Cream), timm, mmpretrain and this library.

    python tools/model_converters/convert_tiny_vit.py tiny_vit_5m_22kto1k_distill.pth tiny_vit_5m_timm.safetensors \\
        --to timm

The layout of the source is recognised; checkpoints of a training and published files are taken, too. This library loads
every layout as it is: convert for other programs. Nothing in the input is executed.
"""
import argparse
from pathlib import Path

from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.tables import file_table, print_tables


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Convert TinyViT checkpoints between Cream, timm and OpenMMLab.')
    parser.add_argument('source', help='a checkpoint, file or URL')
    parser.add_argument('destination', type=Path, help='the file to write, .pth or .safetensors')
    parser.add_argument('--to', choices=['mmtinyvit', 'mmpretrain', 'timm', 'Cream'], required=True,
                        help='whose names to use; for the first two, as an ImageClassifier (`backbone.`, `head.`)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmtinyvit.apis.publish import pack_weights, refuse_same_file, write_file  # seconds: not for --help
    from mmtinyvit.models.checkpoint_keys import convert_state_dict
    from mmtinyvit.models.checkpoints import read_state_dict

    refuse_same_file(args.destination, args.source)
    prefix = 'backbone.' if args.to in ('mmtinyvit', 'mmpretrain') else ''
    state_dict = convert_state_dict(read_state_dict(args.source), args.to, prefix)
    name = 'model' if args.to == 'Cream' else None  # where the original looks for them
    write_file(args.destination, pack_weights(state_dict, args.destination.suffix, name=name))
    print_tables(file_table(args.destination, state_dict, names_of=args.to))


if __name__ == '__main__':
    run_command(main)
