"""What is in a store: ``info`` for the whole, ``show`` for one sample."""
import argparse
from pathlib import Path

from rich.text import Text

from mmtinyvit.store import LogitStore
from mmtinyvit.store.admin.summary import NO_REPLAY, describe_sample, describe_store, read_class_names

from ..command import printable
from ..tables import fact_table, row_table, size
from .output import emit

__all__ = ['info', 'show']


def info(args: argparse.Namespace) -> None:
    store = describe_store(args.store)
    prints = store['fingerprints']
    teacher, pipeline, dataset = ({} if not isinstance(prints.get(name), dict) else prints[name]
                                  for name in ('teacher', 'pipeline', 'dataset'))
    partial = {view: shards for view, shards in store['views'].items() if view not in store['complete_views']}
    transforms = pipeline.get('transforms') or []
    emit(args, store, fact_table({
        'store': store['path'],
        'samples': store['num_samples'],
        'classes': f"top {store['topk']} of {store['num_classes']:,}",
        'class names': ', '.join(prints.get('class_names', '').split('\n')[:3]) + ', ...' * ('class_names' in prints),
        'complete views': store['complete_views'],
        'incomplete views': ', '.join(f"{view} ({shards['present']} of {shards['expected']} shards)"
                                      for view, shards in partial.items()),
        'codec': f"{store['codec']}, {store['bytes_per_view']:g} bytes per view",
        'records': str(prints.get('records') or ''),
        'views are relative to': None if store['reference_view'] is None else f"view {store['reference_view']}",
        'on disk': size(store['bytes_on_disk']),
        'samples per shard': store['samples_per_shard'],
        'base seed': str(store['base_seed']),
        'replay': ('NONE: ' + str(pipeline.get('reason', 'the views cannot be made again'))
                   if pipeline.get('replay') == NO_REPLAY else 'by seeds, checked by canaries'),
        'mixing': str(pipeline.get('mixing') or 'yes') if store['mixing'] else 'no',
        'transforms': ', '.join(str(t.get('type')) for t in transforms if isinstance(t, dict)),
        'teacher': ' '.join(str(teacher[name]) for name in ('name', 'weights_hash', 'precision') if teacher.get(name)),
        'dataset order': dataset.get('order_hash'),
        'class list': dataset.get('classes_hash'),
        'written with': ', '.join(f'{name} {version}' for name, version in (prints.get('versions') or {}).items()),
        'store id': store['store_id']}))


def show(args: argparse.Namespace) -> None:
    store = LogitStore(args.store)
    names = known = store.manifest.class_names
    if args.classes and Path(args.classes).exists():
        names = read_class_names(args.classes, store.num_classes, known)
    elif args.classes:
        from mmtinyvit.apis.store_stats import name_classes  # a layout: needs timm

        names = name_classes(store, None, args.classes)
    sample = describe_sample(store, args.key, args.views, args.top, names)
    mixing = ['partner hash'] if any('partner' in row for row in sample['views']) else []
    said = 'classes, probability (log-probability)'
    table = row_table('view', *mixing, said, 'other classes', words=(said, ),
                      title=Text(printable(f"{sample['key']} (sample {sample['position']})")))
    for row in sample['views']:
        lines = [f"{printable(entry['name'] or str(entry['class']))} {entry['prob']:.1%} ({entry['log_prob']:.2f})"
                for entry in row['top']]
        table.add_row(str(row['view']), *([row['partner']] if mixing else []), Text('\n'.join(lines)),
                      f"{row['tail_mass']:.2%}")
    emit(args, sample, table)
