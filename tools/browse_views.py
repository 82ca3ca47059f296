"""Draw replayed views with the teacher's top classes.

    python tools/browse_views.py configs/demo/distill.py --out views.png --samples 6 --views 0:4
"""
import argparse

import numpy as np
from mmengine.registry import DATASETS, init_default_scope

from mmtinyvit.apis.command import run_command
from mmtinyvit.apis.config import add_common_flags, check_data, load_config
from mmtinyvit.apis.gallery import draw_views
from mmtinyvit.apis.ranges import parse_range
from mmtinyvit.datasets.load_teacher_logits import find_store


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draw replayed views with the teacher's top classes.")
    add_common_flags(parser)
    parser.add_argument('--out', default='views.png', help='picture to write (default: views.png)')
    parser.add_argument('--samples', type=int, default=6, help='how many samples, spread over the data (default: 6)')
    parser.add_argument('--index', type=int, nargs='+', help='these samples instead')
    parser.add_argument('--views', type=parse_range, default=(0, 4), metavar='A:B', help='views A to B - 1')
    parser.add_argument('--top', type=int, default=3, help='classes to name (default: 3)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    check_data(cfg, 'train_dataloader')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    store = find_store(dataset)
    views = [view for view in range(*args.views) if view in set(store.views)] or store.views[:1]
    indices = args.index or np.linspace(0, len(dataset) - 1, args.samples).astype(int).tolist()
    print(f'Wrote {draw_views(store, dataset, args.out, indices, views, args.top)}')


if __name__ == '__main__':
    run_command(main)
