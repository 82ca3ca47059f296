"""Convert the published CLIP-ViT-L/14 finetuned on ImageNet-22k, the teacher of the TinyViT paper.

    python tools/model_converters/clip_vit_to_mmtinyvit.py clip_vit_large_patch14_22k.pth \\
        clip_vit_large_patch14_22k_mmtinyvit.pth

The result is a plain state dict for configs/teachers/clip_vit_l14_in21k.py. Nothing in the input is executed.
"""
import argparse
from pathlib import Path

from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.tables import file_table, print_tables


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Convert the published CLIP-ViT-L/14 teacher.')
    parser.add_argument('source', help='clip_vit_large_patch14_22k.pth, file or URL')
    parser.add_argument('destination', type=Path, help='the file to write')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmtinyvit.apis.publish import pack_weights, refuse_same_file, write_file  # seconds: not for --help
    from mmtinyvit.models.checkpoint_keys import convert_clip_state_dict
    from mmtinyvit.models.checkpoints import read_state_dict

    state_dict = convert_clip_state_dict(read_state_dict(args.source))
    refuse_same_file(args.destination, args.source)
    write_file(args.destination, pack_weights(state_dict, args.destination.suffix))
    print_tables(file_table(args.destination, state_dict, classes=f"{len(state_dict['head.fc.weight']):,}"))


if __name__ == '__main__':
    run_command(main)
