"""``gallery``: views as the teacher saw them, in one picture."""
import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore
from mmtinyvit.store.admin.summary import is_replayable
from mmtinyvit.store.folders import is_url

from ..tables import fact_table
from .labels import label_index
from .output import emit

__all__ = ['gallery']


def gallery(args: argparse.Namespace) -> None:
    store = LogitStore(args.store) if args.store else None
    with redirect_stdout(sys.stderr):
        from mmtinyvit.apis.pictures import draw_views
        from mmtinyvit.apis.store_stats import measure_store, name_classes, pick_views
        from mmtinyvit.datasets.load_teacher_logits import ignore_stores
        from mmtinyvit.engine.store_check import check_canaries

        from ..runner import build_dataset, load_config

        cfg = load_config(args)
        dataset = build_dataset(cfg)
        places = configured_stores(cfg, dataset) if store is None else []
        if any(is_url(place) or Path(place).exists() for place in places):
            if len(places) > 1:
                raise UserError(f'The config {args.config} reads {len(places)} stores: name the one to draw.')
            store = LogitStore(places[0])
        ignore_stores(dataset)  # the records come from the store that is drawn
        at = f' at {places[0]}' if places else ''
        if store is None:
            if args.hardest or args.classes:
                raise UserError(f'The config {args.config} has no store{at} yet, so no teacher has said anything: draw '
                                'the views without --hardest and --classes, or save the store first.')
            views = list(range(4) if args.views is None else args.views)
        else:
            if not is_replayable(store.manifest):
                raise UserError(f'The views of {store.root} cannot be made again, so there is nothing to draw.')
            views = pick_views(store, args.views, complete=args.hardest)
            views = views[:4] if args.views is None else views
            check_canaries(store, dataset, views, 2, any_order=True, labels=args.hardest and not args.label_index)
        if args.index:
            rows = args.index
        elif args.hardest:
            classes = name_classes(store, dataset, args.classes) if args.classes else None
            measured = measure_store(store, dataset, views, worst=args.rows, label_index=label_index(args),
                                     classes=classes)
            rows = [row['index'] for row in measured['disagreements']]
        else:
            rows = sorted({round(i * (len(dataset) - 1) / max(args.rows - 1, 1)) for i in range(args.rows)})
        draw_views(store, dataset, args.out, rows, views, args.top,
                   store and name_classes(store, dataset, args.classes))
    emit(args, dict(path=store and str(store.root), picture=args.out, rows=rows, views=views),
         fact_table({'wrote': args.out, 'store': store.root if store else f'none yet{at}, so these are the views alone',
                     'samples': ', '.join(map(str, rows)), 'views': views}))


def configured_stores(cfg: Any, dataset: Any) -> list[str]:
    """Where a config has its store, or its stores, whether there is anything yet or not."""
    from mmtinyvit.config import saves_logits, saving_loop
    from mmtinyvit.datasets.load_teacher_logits import LoadTeacherLogits, use_store
    from mmtinyvit.datasets.views import iter_transforms

    if saves_logits(cfg):
        path = saving_loop(cfg, cfg.filename).get('store')
        return [path] if path else []
    reads = any(isinstance(transform, LoadTeacherLogits) for transform in iter_transforms(dataset))
    return use_store(dataset, cfg).paths if reads else []
