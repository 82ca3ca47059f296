"""Test a checkpoint on the config's test data.

    python tools/test.py configs/tinyvit/distill_in21k.py work_dirs/distill_in21k/epoch_90.pth
"""
import argparse

from mmtinyvit.cli.command import add_common_flags, run_command, write_json


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a checkpoint.')
    add_common_flags(parser)
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--out', help='write the metrics to this JSON file')
    return parser.parse_intermixed_args()


def main() -> None:
    args = parse_args()
    from mmtinyvit.cli.runner import build_runner, check_data, load_config  # seconds: not for --help

    cfg = load_config(args)
    check_data(cfg, 'test_dataloader')
    metrics = build_runner(cfg).test()
    if args.out:
        write_json(args.out, metrics)


if __name__ == '__main__':
    run_command(main)
