"""``plan``: what a store of a teacher would cost, before it is saved."""
import argparse
import sys
from contextlib import redirect_stdout

from ..tables import fact_table, row_table, size
from .output import emit

__all__ = ['plan']


def plan(args: argparse.Namespace) -> None:
    with redirect_stdout(sys.stderr):
        from mmtinyvit.apis.store_plan import check_limits, free_bytes, plan_store, recommend_views
        from mmtinyvit.config import saving_loop
        from mmtinyvit.engine.runner import TeacherRunner

        from ..runner import build_runner, check_data, load_config

        cfg = load_config(args)
        loop = saving_loop(cfg, args.config)
        room = free_bytes(loop.get('store', '.')) if args.disk is None else int(args.disk * 2**30)
        check_limits(room, args.hours)
        check_data(cfg, 'test_dataloader')
        planned = plan_store(cfg, build_runner(cfg, TeacherRunner).model, args.images, args.views, args.max_kl)
        best = planned['recommended']
        advice = recommend_views(planned['views'], best['total_bytes'], planned['hours'], room, args.hours)
    title = f"{planned['images']:,} images, {planned['classes']:,} classes; KL in nats; bytes of one view, and of all"
    table = row_table('K', 'codec', 'mass', 'mean KL', 'by codec', 'largest', 'bytes', 'in all', words=('codec', ),
                      box=None, pad_edge=False, title=title)
    for row in planned['rows']:
        divergences = (max(row[name], 0) for name in ('mean_kl', 'codec_kl', 'max_kl'))  # rounding goes below 0
        table.add_row(f"{row['topk']:,}", row['codec'], f"{row['mass']:.4f}", *(f'{kl:.1e}' for kl in divergences),
                      f"{row['bytes']:g}", size(row['total_bytes']), style='bold' if row is best else None)
    far = f' (no K tried comes below {args.max_kl:g}: this is the closest)' if best['mean_kl'] > args.max_kl else ''
    reasons = {'wanted': 'all that are wanted', 'room': f'what {room / 2**30:,.1f} GiB hold',
               'time': f'what the teacher computes in {args.hours} hours'}
    emit(args, dict(config=args.config, **planned, recommended_views=advice), table, fact_table({
        'config': args.config,
        'samples': planned['samples'],
        'views': planned['views'],
        'measured rate': f"{planned['per_second']:,.1f} images per second",
        'time for all views': f"{planned['hours']:,.2f} hours on one such device",
        'recommended': f"topk={best['topk']}, codec='{best['codec']}': {size(best['total_bytes'])}, mean KL "
                       f"{best['mean_kl']:.3g} nats{far}",
        'recommended views': f"{advice['views']} ({reasons[advice['limit']]}): {size(advice['bytes'])}, "
                             f"{advice['hours']:,.2f} hours"}))
