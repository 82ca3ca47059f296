"""Convert the published CLIP-ViT-L/14 finetuned on ImageNet-22k, the teacher of the TinyViT paper.

    python tools/model_converters/clip_vit_to_mmtinyvit.py clip_vit_large_patch14_22k.pth \\
        clip_vit_large_patch14_22k_mmtinyvit.pth

The result is a plain state dict for configs/_base_/models/clip_vit_l14_in21k.py. Nothing in the input is executed.
"""
import argparse
import io
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from mmtinyvit.apis.command import run_command
from mmtinyvit.errors import UserError
from mmtinyvit.models.backbones.clip_vision_keys import convert_clip_state_dict
from mmtinyvit.models.weights import read_state_dict
from mmtinyvit.store.files import write_atomically


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Convert the published CLIP-ViT-L/14 teacher.')
    parser.add_argument('source', type=Path, help='clip_vit_large_patch14_22k.pth')
    parser.add_argument('destination', type=Path, help='the file to write')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    state_dict = convert_clip_state_dict(read_state_dict(args.source))
    if args.destination.resolve() == args.source.resolve():
        raise UserError(f'The destination {args.destination} is the source: choose another name.')
    buffer = io.BytesIO()
    torch.save(state_dict, buffer)
    try:
        size = write_atomically(args.destination, [buffer.getbuffer()])
    except OSError as error:
        raise UserError(f'Cannot write {args.destination} ({error.strerror}): choose another path.') from error
    table = Table('file', 'tensors', 'parameters', 'classes', 'MiB')
    table.add_row(str(args.destination), str(len(state_dict)), f'{sum(v.numel() for v in state_dict.values()):,}',
                  f"{len(state_dict['head.fc.weight']):,}", f'{size / 2**20:.1f}')
    Console().print(table)


if __name__ == '__main__':
    run_command(main)
