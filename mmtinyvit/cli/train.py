"""Train a model: distil from a store, finetune, or train from scratch.

    mmtinyvit train configs/tinyvit/distill_in21k.py
"""
import argparse
from collections.abc import Sequence
from typing import Any

from mmtinyvit.errors import UserError

from .command import add_common_flags

__all__ = ['ON_INTERRUPT', 'build_parser', 'main']

ON_INTERRUPT = 'Interrupted: run the same command with --resume to go on from the last checkpoint.'


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Train a model.')
    add_common_flags(parser)
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='go on from CHECKPOINT, or from the latest one in the work folder')
    parser.add_argument('--amp', action='store_true', help='train with automatic mixed precision (needs a GPU)')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the total batch')
    return parser


def merge_flags(cfg: Any, args: argparse.Namespace) -> None:
    """Merge the flags above into the config, with mmpretrain's meaning."""
    from mmengine.device import get_device

    from .runner import use_checkpoint

    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        if get_device() == 'cpu':
            raise UserError('--amp needs a GPU, and none is found here: train without it.')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    use_checkpoint(cfg, cfg.get('load_from'))
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise UserError('--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config.')
        cfg.auto_scale_lr.enable = True


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    from .runner import build_runner, check_data, load_config  # seconds: not for --help

    cfg = load_config(args)
    merge_flags(cfg, args)
    check_data(cfg, 'train_dataloader', 'val_dataloader')
    build_runner(cfg).train()
