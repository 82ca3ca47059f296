"""Test a checkpoint on the config's test data.

    python tools/test.py configs/tinyvit/distill_in21k.py work_dirs/distill_in21k/epoch_90.pth
"""
import argparse
import json
from pathlib import Path

from mmtinyvit.apis.command import run_command
from mmtinyvit.apis.config import add_common_flags, check_data, load_config, use_checkpoint
from mmtinyvit.apis.runner import build_runner
from mmtinyvit.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a checkpoint.')
    add_common_flags(parser)
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--out', help='write the metrics to this JSON file')
    return parser.parse_intermixed_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    use_checkpoint(cfg, args.checkpoint)
    check_data(cfg, 'test_dataloader')
    metrics = build_runner(cfg).test()
    if args.out:
        try:
            Path(args.out).parent.mkdir(parents=True, exist_ok=True)
            Path(args.out).write_text(json.dumps(metrics, indent=2, default=float) + '\n')
        except OSError as error:
            raise UserError(f'The metrics cannot be written to {args.out} ({error.strerror}): choose another --out; '
                            f'they are {metrics}.') from error


if __name__ == '__main__':
    run_command(main)
