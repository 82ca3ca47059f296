"""Convert vision transformers between the names of MAE and timm and those of mmpretrain.

    python tools/model_converters/mae_to_mmpretrain.py mae_pretrain_vit_base.pth mae_base_mmpretrain.pth

Takes the checkpoints of facebookresearch/mae, of the released TinyMIM, of timm, of mmpretrain's MAE, and of this
library's trainings. The result is a plain state dict of the network alone, without decoder, necks and heads: for
`load_from` of an ImageClassifier, or with `--to timm` for timm. Nothing in the input is executed. Teachers of TinyMIM
need no conversion.
"""
import argparse
from pathlib import Path

from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.tables import file_table, print_tables


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Convert vision transformers between MAE, timm and mmpretrain.')
    parser.add_argument('source', help='a checkpoint, file or URL')
    parser.add_argument('destination', type=Path, help='the file to write')
    parser.add_argument('--to', choices=['mmpretrain', 'timm'], default='mmpretrain',
                        help='whose names to use (default: mmpretrain, each after `backbone.`)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmtinyvit.apis.publish import pack_weights, refuse_same_file, write_file  # seconds: not for --help
    from mmtinyvit.models.checkpoint_keys import convert_vit_state_dict
    from mmtinyvit.models.checkpoints import read_state_dict

    refuse_same_file(args.destination, args.source)
    prefix = 'backbone.' if args.to == 'mmpretrain' else ''
    state_dict = convert_vit_state_dict(read_state_dict(args.source), args.to, prefix)
    write_file(args.destination, pack_weights(state_dict, args.destination.suffix))
    print_tables(file_table(args.destination, state_dict, names_of=args.to))


if __name__ == '__main__':
    run_command(main)
