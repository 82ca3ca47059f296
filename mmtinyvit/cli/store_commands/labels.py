"""A store beside the labels of its images: ``stats`` compares them, ``clean`` lists the samples where they agree."""
import argparse
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rich.text import Text

from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore

from ..command import printable
from ..tables import fact_table, row_table
from .output import emit, watched_units

__all__ = ['accuracy_facts', 'agreement_facts', 'clean', 'label_index', 'stats']


def stats(args: argparse.Namespace) -> None:
    store = LogitStore(args.store)
    with redirect_stdout(sys.stderr):
        from mmtinyvit.apis.pictures import draw_stats
        from mmtinyvit.apis.store_stats import measure_store, name_classes, pick_views
        from mmtinyvit.engine.store_check import check_dataset

        from ..runner import build_dataset, load_config

        dataset = build_dataset(load_config(args))
        check_dataset(store, dataset, any_order=True, labels=not args.label_index)
        views = pick_views(store, args.views)
        classes = name_classes(store, dataset, args.classes)
        measured = measure_store(store, dataset, views, args.samples, args.worst, label_index(args), watched_units,
                                 classes if args.classes else None)
        if args.out:
            draw_stats(measured, args.out)
            measured['plots'] = args.out

    def name(label: int) -> Text:
        return Text(printable(classes[label]) if classes else f'class {label}')

    tables = [fact_table({
        'store': args.store,
        'samples': measured['samples'],
        'views': measured['views'],
        **accuracy_facts(measured, store.topk),
        **agreement_facts(measured),
        'mean entropy': f"{measured['entropy']:.3f} nats",
        'mean mass of top K': ', '.join(f'{k}: {mass:.3f}' for k, mass in measured['mass'].items()),
        'plots': args.out})]
    table = row_table('label', 'teacher says', 'views', words=('label', 'teacher says'), title='Classes confused most')
    for row in measured['confusions']:
        table.add_row(name(row['label']), name(row['predicted']), f"{row['views']:,}")
    tables.append(table)
    for which, title in (('disagreements', 'Teacher and label disagree most: the label may be wrong'),
                         ('hardest', 'The teacher is least sure: hard samples')):
        table = row_table(*(headers := ('sample', 'label', 'teacher says')), words=headers, title=title)
        for row in measured[which]:
            table.add_row(Text(printable(row['key'])), name(row['label']) + f" {row['label_prob']:.1%}",
                          name(row['predicted']) + f" {row['predicted_prob']:.1%}")
        tables.append(table)
    emit(args, dict(path=args.store, **measured), *tables)


def accuracy_facts(measured: Mapping[str, Any], topk: int) -> dict[str, str]:
    """How often the label is the first class, and among the first five or as many as are stored."""
    top = min(5, topk)
    return {"teacher's top-1" + f', top-{top}' * (top > 1):
            f"{measured['top1']:.2%}" + f", {measured['top5']:.2%}" * (top > 1)}


def agreement_facts(measured: Mapping[str, Any]) -> dict[str, str]:
    """How often all views have the same first class, where there are several."""
    return {'same top-1 in all views': f"{measured['same_top1']:.2%}"} if len(measured['views']) > 1 else {}


def label_index(args: argparse.Namespace) -> list[int] | dict[str, str] | None:
    """What ``--label-index`` says: numbers in the order of the labels, or the teacher's classes by folder.

    One argument that is the name of a file stands for its lines.
    """
    given = args.label_index or []
    if len(given) == 1 and not given[0].isdecimal() and Path(given[0]).is_file():
        try:
            given = Path(given[0]).read_text().split('\n')
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f'--label-index {given[0]} cannot be read ({getattr(error, "strerror", None) or error}): '
                            'name a text with a number or FOLDER=CLASS a line.') from error
        given = [line.strip() for line in given if line.strip()]
    if all(map(str.isdecimal, given)):
        return list(map(int, given)) or None
    if wrong := [item for item in given if '=' not in item]:
        raise UserError(f'--label-index {wrong[0]} says no class of a folder: write it as fish=tench, or give a number '
                        'for each label, as in --label-index 0 569, or a file with one of these a line.')
    return dict(item.split('=', 1) for item in given)


def clean(args: argparse.Namespace) -> None:
    store = LogitStore(args.store)
    with redirect_stdout(sys.stderr):
        import numpy as np

        from mmtinyvit.apis.publish import write_pieces
        from mmtinyvit.apis.store_cleaning import check_rule, keep_samples, measure_support
        from mmtinyvit.apis.store_stats import name_classes, pick_views
        from mmtinyvit.engine.store_check import check_dataset

        from ..runner import build_dataset, load_config

        check_rule(args.rule, args.share)
        if Path(args.out).is_dir():
            raise UserError(f'{args.out} is a folder: name the file to write with --out.')
        dataset, index = build_dataset(load_config(args)), label_index(args)
        check_dataset(store, dataset, any_order=True, labels=not index)
        views, names = pick_views(store, args.views), name_classes(store, dataset, args.classes)
        support = measure_support(store, dataset, views, args.top, index, watched_units,
                                  names if args.classes else None)
        kept = keep_samples(support, args.rule, args.share)
        if not kept.any():
            raise UserError(f'No label of {len(kept):,} is among the top {args.top} of the teacher of {args.store}, so '
                            'nothing would be left: check --label-index, or choose a larger --top or another --rule.')
        write_pieces(Path(args.out), (f'{store.key(position)}\n'.encode() for position in support.positions[kept]))
        lost = np.bincount(support.labels[~kept], minlength=store.num_classes)
        total = np.bincount(support.labels, minlength=store.num_classes)
    worst = [dict(label=int(label), lost=int(lost[label]), of=int(total[label]))
             for label in np.argsort(-lost, kind='stable')[:args.worst] if lost[label]]
    label = "label (teacher's class)"
    table = row_table(label, 'left out', 'of', words=(label, ), title='Labels that lose most')
    for row in worst:
        name = printable(names[row['label']]) if names else f"class {row['label']}"
        table.add_row(name, f"{row['lost']:,}", f"{row['of']:,}")
    rule = f'{args.rule} of the views' if args.share is None else f'the best {args.share:.2%}'
    emit(args, dict(path=args.store, out=args.out, views=views, top=args.top, rule=args.rule, share=args.share,
                    kept=int(kept.sum()), left_out=int((~kept).sum()), labels=worst),
         fact_table({'store': args.store, 'views': views, 'label among the top': args.top, 'kept by': rule,
                     'kept': f'{kept.sum():,} of {len(kept):,} ({kept.mean():.2%})', 'wrote': args.out,
                     'note': 'the views are mixed in pairs, and the teacher may have said what the partner is: labels '
                     'are judged better by a store of single views' if store.mixing else ''}),
         *([table] if worst else []))
