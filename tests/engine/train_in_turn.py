"""Train several configs in one process, or in one group of them, whose start takes longer than the trainings."""
import argparse

from mmengine.config import Config

from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.runner import build_runner


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('configs', nargs='+')
    parser.add_argument('--launcher', default='none')
    args = parser.parse_args()
    for path in args.configs:
        cfg = Config.fromfile(path)
        cfg.launcher = args.launcher
        build_runner(cfg).train()


if __name__ == '__main__':
    run_command(main)
