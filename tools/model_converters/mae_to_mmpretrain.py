"""Convert vision transformers between the names of MAE and timm and those of mmpretrain.

    python tools/model_converters/mae_to_mmpretrain.py mae_pretrain_vit_base.pth mae_base_mmpretrain.pth

Takes the checkpoints of facebookresearch/mae, of the released TinyMIM, of timm, of mmpretrain's MAE, and of this
library's trainings. The result is a plain state dict of the network alone, without decoder, necks and heads: for
`load_from` of an ImageClassifier, or with `--to timm` for timm. Nothing in the input is executed. Teachers of TinyMIM
need no conversion.
"""
import argparse
import io
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from mmtinyvit.apis.command import run_command
from mmtinyvit.errors import UserError
from mmtinyvit.models.selfsup import convert_vit_state_dict
from mmtinyvit.models.weights import read_state_dict
from mmtinyvit.store.files import write_atomically


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Convert vision transformers between MAE, timm and mmpretrain.')
    parser.add_argument('source', help='a checkpoint, file or URL')
    parser.add_argument('destination', type=Path, help='the file to write')
    parser.add_argument('--to', choices=['mmpretrain', 'timm'], default='mmpretrain',
                        help='whose names to use (default: mmpretrain, each after `backbone.`)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.destination.resolve() == Path(args.source).resolve():
        raise UserError(f'The destination {args.destination} is the source: choose another name.')
    prefix = 'backbone.' if args.to == 'mmpretrain' else ''
    state_dict = convert_vit_state_dict(read_state_dict(args.source), args.to, prefix)
    buffer = io.BytesIO()
    torch.save(state_dict, buffer)
    try:
        size = write_atomically(args.destination, [buffer.getbuffer()])
    except OSError as error:
        raise UserError(f'Cannot write {args.destination} ({error.strerror}): choose another path.') from error
    table = Table('file', 'names of', 'tensors', 'parameters', 'MiB')
    table.add_row(str(args.destination), args.to, str(len(state_dict)),
                  f'{sum(v.numel() for v in state_dict.values()):,}', f'{size / 2**20:.1f}')
    Console().print(table)


if __name__ == '__main__':
    run_command(main)
