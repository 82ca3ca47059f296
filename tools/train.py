"""Train a model: distil from a store, finetune, or train from scratch.

    python tools/train.py configs/tinyvit/distill_in21k.py
"""
import argparse

from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.runner import add_common_flags, build_runner, check_data, load_config, merge_training_flags


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model.')
    add_common_flags(parser)
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='go on from CHECKPOINT, or from the latest one in the work folder')
    parser.add_argument('--amp', action='store_true', help='train with automatic mixed precision (needs a GPU)')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the total batch')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    merge_training_flags(cfg, args)
    check_data(cfg, 'train_dataloader', 'val_dataloader')
    build_runner(cfg).train()


if __name__ == '__main__':
    run_command(main, 'Interrupted: run the same command with --resume to go on from the last checkpoint.')
