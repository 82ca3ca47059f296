"""Test a checkpoint on the config's test data.

    mmtinyvit test configs/tinyvit/distill_in21k.py work_dirs/distill_in21k/epoch_90.pth
    mmtinyvit test CONFIG CHECKPOINT --tta --show-dir pictures
"""
import argparse
from collections.abc import Sequence

from .command import add_common_flags, positive, write_json

__all__ = ['build_parser', 'main']


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Test a checkpoint.')
    add_common_flags(parser)
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--out', help='write the metrics to this JSON file')
    parser.add_argument('--tta', action='store_true', help='test on each image and its mirror image, or as the '
                        "config's tta_pipeline and tta_model say, and merge the predictions")
    parser.add_argument('--show-dir', metavar='DIR', help='write pictures with the predictions into this folder; for '
                        'mmdet it lies within the folder of the run')
    parser.add_argument('--show', action='store_true', help='show them in windows')
    parser.add_argument('--interval', type=positive, default=1, help='of a classifier, draw every n-th image (1)')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that a window stays (2)')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_intermixed_args(argv)
    from . import runner  # seconds: not for --help

    cfg = runner.load_config(args)
    runner.check_data(cfg, 'test_dataloader')
    if args.show or args.show_dir:
        runner.draw_results(cfg, args.show, args.show_dir, args.interval, args.wait_time)
    if args.tta:
        runner.augment_test(cfg)
    metrics = runner.build_runner(cfg).test()
    if args.out:
        write_json(args.out, metrics)
