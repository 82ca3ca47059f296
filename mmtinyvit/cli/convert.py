"""Convert checkpoints between the names of this library and those of other programs.

    mmtinyvit convert tiny-vit tiny_vit_5m_22kto1k_distill.pth tiny_vit_5m_timm.safetensors --to timm
    mmtinyvit convert clip-vit clip_vit_large_patch14_22k.pth clip_vit_large_patch14_22k_mmtinyvit.pth
    mmtinyvit convert mae mae_pretrain_vit_base.pth mae_base_mmpretrain.pth

The layout of the source is recognised; checkpoints of a training and published files are taken, too. This library loads
TinyViT's layouts as they are: convert for other programs. Nothing in the input is executed.
"""
import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from .tables import file_table, print_tables

__all__ = ['build_parser', 'clip_vit', 'mae', 'main', 'tiny_vit']


# ---------------------------------------------------------------- flags, also for tools/model_converters/
def add_files(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument('source', help='a checkpoint, file or URL')
    parser.add_argument('destination', type=Path, help='the file to write, .pth or .safetensors')
    return parser


def add_tiny_vit(parser: argparse.ArgumentParser) -> None:
    add_files(parser).add_argument(
        '--to', choices=['mmtinyvit', 'mmpretrain', 'timm', 'Cream'], required=True,
        help='whose names to use; for the first two, as an ImageClassifier (`backbone.`, `head.`)')


def add_mae(parser: argparse.ArgumentParser) -> None:
    add_files(parser).add_argument('--to', choices=['mmpretrain', 'timm'], default='mmpretrain',
                                   help='whose names to use (default: mmpretrain, each after `backbone.`)')


# ---------------------------------------------------------------- the conversions
def tiny_vit(args: argparse.Namespace) -> None:
    """TinyViT, between the names of the original (Cream), timm, mmpretrain and this library."""
    from mmtinyvit.models.checkpoint_keys import convert_state_dict  # seconds: not for --help
    from mmtinyvit.models.checkpoints import read_state_dict

    _refuse_same(args)
    prefix = 'backbone.' if args.to in ('mmtinyvit', 'mmpretrain') else ''
    state_dict = convert_state_dict(read_state_dict(args.source), args.to, prefix)
    _write(args.destination, state_dict, name='model' if args.to == 'Cream' else None,  # where the original looks
           names_of=args.to)


def clip_vit(args: argparse.Namespace) -> None:
    """The published CLIP-ViT-L/14 finetuned on ImageNet-22k, for configs/teachers/clip_vit_l14_in21k.py."""
    from mmtinyvit.models.checkpoint_keys import convert_clip_state_dict
    from mmtinyvit.models.checkpoints import read_state_dict

    state_dict = convert_clip_state_dict(read_state_dict(args.source))
    _refuse_same(args)
    _write(args.destination, state_dict, classes=f"{len(state_dict['head.fc.weight']):,}")


def mae(args: argparse.Namespace) -> None:
    """Vision transformers, between the names of MAE and timm and those of mmpretrain: the network alone."""
    from mmtinyvit.models.checkpoint_keys import convert_vit_state_dict
    from mmtinyvit.models.checkpoints import read_state_dict

    _refuse_same(args)
    prefix = 'backbone.' if args.to == 'mmpretrain' else ''
    _write(args.destination, convert_vit_state_dict(read_state_dict(args.source), args.to, prefix), names_of=args.to)


def _refuse_same(args: argparse.Namespace) -> None:
    from mmtinyvit.apis.publish import refuse_same_file

    refuse_same_file(args.destination, args.source)


def _write(path: Path, state_dict: dict, name: str | None = None, **facts: str) -> None:
    from mmtinyvit.apis.publish import pack_weights, write_file

    write_file(path, pack_weights(state_dict, path.suffix, name=name))
    print_tables(file_table(path, state_dict, **facts))


# ---------------------------------------------------------------- the command
CONVERSIONS: dict[str, tuple[Callable, Callable]] = {
    'tiny-vit': (tiny_vit, add_tiny_vit), 'clip-vit': (clip_vit, add_files), 'mae': (mae, add_mae)}


def build_parser(conversion: str | None = None) -> argparse.ArgumentParser:
    """The flags of ``mmtinyvit convert``, or of one conversion alone."""
    if conversion:
        convert, add_flags = CONVERSIONS[conversion]
        parser = argparse.ArgumentParser(description=convert.__doc__)
        add_flags(parser)
        parser.set_defaults(run=convert)
        return parser
    parser = argparse.ArgumentParser(description='Convert checkpoints between the names of programs.')
    subparsers = parser.add_subparsers(required=True, metavar='NETWORK')
    for name, (convert, add_flags) in CONVERSIONS.items():
        sub = subparsers.add_parser(name, help=convert.__doc__, description=convert.__doc__)
        add_flags(sub)
        sub.set_defaults(run=convert)
    return parser


def main(argv: Sequence[str] | None = None, conversion: str | None = None) -> None:
    args = build_parser(conversion).parse_args(argv)
    args.run(args)
