"""What the commands print: tables for people."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from mmtinyvit.store.admin.summary import NO_REPLAY
from mmtinyvit.store.layout import spell_numbers

__all__ = ['compared_table', 'fact_table', 'file_table', 'info_table', 'plan_tables', 'sample_table', 'stats_tables']


def fact_table(facts: dict[str, Any], title: str | None = None) -> Table:
    """A table of names and values; values that are empty or None are left out."""
    table = Table(title=title, show_header=False, title_justify='left')
    table.add_column(no_wrap=True)
    table.add_column(overflow='fold')
    for name, value in facts.items():
        if value not in (None, '', [], {}):
            table.add_row(name, Text(f'{value:,}' if type(value) is int else str(value)))  # Text: keys hold brackets
    return table


def _size(num_bytes: int) -> str:
    return f'{num_bytes / 2**30:,.1f} GiB' if num_bytes >= 2**30 else f'{num_bytes / 2**20:,.2f} MiB'


def info_table(store: dict[str, Any]) -> Table:
    """The table of ``describe_store``."""
    prints = store['fingerprints']
    teacher, pipeline, dataset = ({} if not isinstance(prints.get(name), dict) else prints[name]
                                  for name in ('teacher', 'pipeline', 'dataset'))
    partial = {view: shards for view, shards in store['views'].items() if view not in store['complete_views']}
    transforms = pipeline.get('transforms') or []
    return fact_table({
        'store': store['path'],
        'samples': store['num_samples'],
        'classes': f"top {store['topk']} of {store['num_classes']:,}",
        'complete views': f"{len(store['complete_views'])} ({spell_numbers(store['complete_views'])})",
        'incomplete views': ', '.join(f"{view} ({shards['present']} of {shards['expected']} shards)"
                                      for view, shards in partial.items()),
        'codec': f"{store['codec']}, {store['bytes_per_view']:g} bytes per view",
        'records': str(prints.get('records') or ''),
        'views are relative to': None if store['reference_view'] is None else f"view {store['reference_view']}",
        'on disk': _size(store['bytes_on_disk']),
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
        'store id': store['store_id']})


def compared_table(compared: dict[str, float]) -> Table:
    """The table of ``CheckLogitsLoop``: how far the teacher is from what is stored."""
    return fact_table({
        'records asked again': compared['records'],
        'mean KL': f"{compared['mean_kl']:.2e} nats",
        'largest KL': f"{compared['max_kl']:.2e} nats",
        'first class changed': compared['top1_changed']})


def sample_table(sample: dict[str, Any]) -> Table:
    """The table of ``describe_sample``: a row per view."""
    mixing = ['partner hash'] if any('partner' in row for row in sample['views']) else []
    table = Table('view', *mixing, 'classes, probability (log-probability)', 'other classes',
                  title=Text(f"{sample['key']} (sample {sample['position']})"), title_justify='left')
    for row in sample['views']:
        lines = [f"{entry['name'] or entry['class']} {entry['prob']:.1%} ({entry['log_prob']:.2f})"
                for entry in row['top']]
        table.add_row(str(row['view']), *([row['partner']] if mixing else []), Text('\n'.join(lines)),
                      f"{row['tail_mass']:.2%}")
    return table


def stats_tables(path: str, stats: dict[str, Any], classes: Sequence[str] | None = None) -> list[Table]:
    """The tables of ``measure_store``: numbers, confused classes, doubtful labels."""
    def name(label: int) -> Text:
        return Text(str(classes[label]) if classes and label < len(classes) else str(label))

    numbers = fact_table({
        'store': path,
        'samples, views': f"{stats['samples']:,}, {spell_numbers(stats['views'])}",
        "teacher's top-1, top-5": f"{stats['top1']:.2%}, {stats['top5']:.2%}",
        'same top-1 in all views': f"{stats['same_top1']:.2%}",
        'mean entropy': f"{stats['entropy']:.3f} nats",
        'mean mass of top K': ', '.join(f'{k}: {mass:.3f}' for k, mass in stats['mass'].items()),
        'plots': stats.get('plots')})
    pairs = Table('label', 'teacher says', 'views', title='Classes confused most', title_justify='left')
    for row in stats['confusions']:
        pairs.add_row(name(row['label']), name(row['predicted']), f"{row['views']:,}")
    tables = [numbers, pairs]
    for which, title in (('disagreements', 'Teacher and label disagree most: the label may be wrong'),
                         ('hardest', 'The teacher is least sure: hard samples')):
        table = Table('sample', 'label', 'teacher says', title=title, title_justify='left')
        for row in stats[which]:
            table.add_row(Text(row['key']), name(row['label']) + f" {row['label_prob']:.1%}",
                          name(row['predicted']) + f" {row['predicted_prob']:.1%}")
        tables.append(table)
    return tables


def plan_tables(config: str, plan: dict[str, Any], max_kl: float) -> list[Table]:
    """The tables of ``plan_store``: a row per K and codec, then what is recommended."""
    table = Table('K', 'codec', 'mass', 'mean KL', 'of it codec', 'largest KL', 'bytes per view', 'in all',
                  title=f"{plan['images']:,} images, {plan['classes']:,} classes", title_justify='left')
    best = plan['recommended']
    for row in plan['rows']:
        table.add_row(f"{row['topk']:,}", row['codec'], f"{row['mass']:.4f}", f"{row['mean_kl']:.2e}",
                      f"{row['codec_kl']:.1e}", f"{row['max_kl']:.2e}", f"{row['bytes']:g}",
                      _size(row['total_bytes']), style='bold' if row is best else None)
    reach = '' if best['mean_kl'] <= max_kl else f' (no K tried comes below {max_kl:g}: this is the closest)'
    return [table, fact_table({
        'config': config,
        'samples, views': f"{plan['samples']:,}, {plan['views']}",
        'measured rate': f"{plan['per_second']:,.1f} images per second",
        'time for all views': f"{plan['hours']:,.2f} hours on one such device",
        'recommended': f"topk={best['topk']}, codec='{best['codec']}': {_size(best['total_bytes'])}, mean KL "
                       f"{best['mean_kl']:.3g} nats{reach}"})]


def file_table(path: Path, state_dict: Mapping[str, Any], **more: str) -> Table:
    """What a converter ends with: the file, ``more``, and its size."""
    table = Table(Column('file', overflow='fold'), *(name.replace('_', ' ') for name in more), 'tensors', 'parameters',
                  'MiB')
    table.add_row(str(path), *more.values(), str(len(state_dict)), f'{sum(v.numel() for v in state_dict.values()):,}',
                  f'{path.stat().st_size / 2**20:.1f}')
    return table
