"""Two processes, of which the first works longer; each writes down how it ends."""
import argparse
import atexit
import os
import time
from pathlib import Path

from torch import distributed

from mmtinyvit.apis import run_command


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('folder', type=Path)
    parser.add_argument('--launcher')
    parser.add_argument('--vanish', action='store_true', help='the second ends without a word')
    args = parser.parse_args()
    folder = args.folder
    distributed.init_process_group('gloo')
    rank = distributed.get_rank()
    atexit.register(lambda: (folder / f'left_{rank}').write_text(
        f'saved {(folder / "saved").exists()}, group {distributed.is_initialized()}'))
    if rank == 0:
        time.sleep(2)
        (folder / 'saved').touch()
    elif args.vanish:
        os._exit(0)


if __name__ == '__main__':
    run_command(main)
