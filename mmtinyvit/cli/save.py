"""Save a teacher's sparse logits for every view of every image, once.

    mmtinyvit save configs/teachers/clip_vit_l14_in21k.py clip_vit_large_patch14_22k_mmtinyvit.pth \\
        --out data/in21k_logits --views 0:90

Stop it at any time and start it again: it does only what is missing. Any number of processes of one job may work on a
store, and with ``--join`` any number of jobs: a Slurm array, workers that come and go. Where a file system has no
locks, give each job its ``--part``, or write to a URL. ``--ray`` hands the work to a Ray cluster.
"""
import argparse
from collections.abc import Sequence

from .command import add_common_flags, parse_range
from .sharing_flags import add_sharing_flags, find_part, refuse_flags_of_ray
from .tables import fact_table, print_tables

__all__ = ['ON_INTERRUPT', 'build_parser', 'main']

ON_INTERRUPT = 'Interrupted: the finished shards are kept; run the same command to save what is missing.'


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Save a teacher's sparse logits.")
    add_common_flags(parser)
    parser.add_argument('checkpoint', nargs='?', help="the teacher's checkpoint, file or URL")
    parser.add_argument('--out', help="folder or URL of the store (default: the config's)")
    parser.add_argument('--views', type=parse_range, metavar='A:B', help='views A to B - 1, for example 0:90')
    parser.add_argument('--views-at-once', type=int, metavar='V',
                        help='make V views of an image whenever it is decoded; takes memory for as many batches')
    parser.add_argument('--join', action='store_true',
                        help='share the work with all others that were started with --join, at any time, anywhere')
    add_sharing_flags(parser)
    parser.add_argument('--random-teacher', action='store_true',
                        help='save even if weights of the teacher come from nowhere, to try something out')
    parser.add_argument('--amp', action='store_true', help='run the teacher in mixed precision')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_intermixed_args(argv)
    refuse_flags_of_ray(args)
    from mmtinyvit.config import saving_loop
    from mmtinyvit.engine.runner import TeacherRunner

    from .runner import build_runner, check_data, load_config  # seconds: not for --help

    cfg = load_config(args)
    loop = saving_loop(cfg, args.config)
    if args.out:
        loop.store = args.out
    if args.views:
        loop.views = (args.views.start, args.views.stop)
    if args.views_at_once is not None:
        loop.views_at_once = args.views_at_once
    if args.amp:
        loop.amp = True
    if args.join:
        loop.join = True
    if args.random_teacher:
        cfg.random_teacher = True
    if args.part is not None:
        loop.part = find_part(args.part)
    check_data(cfg, 'test_dataloader')
    if args.ray is not None:
        from .ray_saving import refuse_incomplete, save_with_ray
        summary, rank = save_with_ray(cfg, args), 0
    else:
        runner = build_runner(cfg, TeacherRunner)
        summary, rank = runner.test(), runner.rank
    if rank == 0:
        views, seconds = loop.get('views', (0, 1)), summary['seconds']
        print_tables(fact_table({
            'store': loop.store, 'views': f'{views[0]}:{views[1]}',
            'saved here': f"{summary['samples']:,} views of images",
            'seconds': f'{seconds:.1f}', 'per second': f"{summary['samples'] / seconds:,.0f}",
            'bytes per view': f"{summary['bytes_per_view']:g}"}))
    if args.ray is not None:
        refuse_incomplete(summary)
