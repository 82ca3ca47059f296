"""The subcommands of ``tools/logit_store.py``: each calls the library and shows what it found."""
import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table
from rich.text import Text

from mmtinyvit.errors import UserError
from mmtinyvit.store import Finding, LogitStore, verify_store
from mmtinyvit.store.admin import import_cream as cream
from mmtinyvit.store.admin.copying import copy_store
from mmtinyvit.store.admin.merge import merge_stores
from mmtinyvit.store.admin.repair import repair_store
from mmtinyvit.store.admin.reshard import reshard_store
from mmtinyvit.store.admin.summary import NO_REPLAY, describe_sample, describe_store, is_replayable, read_class_names
from mmtinyvit.store.files import write_atomically
from mmtinyvit.store.folders import is_url
from mmtinyvit.store.layout import INDEX_NAME, TEXT_NAME

from .command import printable
from .tables import fact_table, print_tables, row_table, size

__all__ = ['clean', 'copy', 'gallery', 'import_cream', 'info', 'merge', 'plan', 'repair', 'reshard', 'show', 'stats',
           'verify']

SAVE_AGAIN = 'python tools/save_logits.py CONFIG CHECKPOINT --out'


# ---------------------------------------------------------------- output
def emit(args: argparse.Namespace, result: dict[str, Any], *tables: Table) -> None:
    """The result as one JSON object, or as tables."""
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        print_tables(*tables)


def watched(findings: Iterable[Finding]) -> Iterable[Finding]:
    """The findings, with a progress bar on a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task('checking')
        for finding in findings:
            progress.update(task, completed=finding.done, total=finding.total)
            yield finding


def watched_units(units: Sequence) -> Iterable:
    """The units of work (shards, views), with a progress bar on a terminal."""
    console = Console(stderr=True)
    return track(units, 'working', console=console, disable=not console.is_terminal, transient=True)


# ---------------------------------------------------------------- looking
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


def verify(args: argparse.Namespace) -> None:
    findings = list(watched(verify_store(args.store)))
    problems = [finding.problem for finding in findings if finding.problem]
    if len(findings) == 1 and problems:  # no manifest, so there is nothing to check
        raise UserError(problems[0])
    facts, coverage = {}, {}
    if args.decode and not problems:
        decoded = list(watched(LogitStore(args.store).decode()))
        problems = [finding.problem for finding in decoded if finding.problem]
        facts['shards decoded'] = len(decoded)
        findings = [*decoded, *findings]
    damaged = sorted({str(finding.path) for finding in findings if finding.problem})
    if not any(path.endswith((TEXT_NAME, INDEX_NAME)) for path in damaged):  # it can be opened
        store = LogitStore(args.store)
        coverage = store.coverage()
        facts |= {'samples': store.num_samples, 'classes': f'top {store.topk} of {store.num_classes:,}',
                  'codec': f'{store.codec}, {store.bytes_per_view:g} bytes per view'}
    partial = [view for view, shards in coverage.items() if shards.present < shards.expected]
    if not args.json:  # at once: the teacher may take long
        emit(args, {}, fact_table({
            'store': args.store, 'files checked': findings[-1].total, 'damaged': len(damaged), **facts,
            'complete views': len(coverage) - len(partial), 'incomplete views': partial,
            'problems': '\n'.join(problems)}))
    compared = ask_again(args) if args.config and not damaged else None
    emit(args, dict(path=args.store, files=findings[-1].total, damaged=damaged, problems=problems,
                    views={view: shards._asdict() for view, shards in coverage.items()}, incomplete_views=partial,
                    teacher=compared),
         *([fact_table({'records asked again': compared['records'], 'mean KL': f"{compared['mean_kl']:.2e} nats",
                        'largest KL': f"{compared['max_kl']:.2e} nats",
                        'first class changed': compared['top1_changed']})] if compared else []))
    if damaged:
        repair = '' if is_url(args.store) else f'run "python tools/logit_store.py repair {args.store}", or '
        raise UserError(f'{args.store} has {len(damaged)} damaged files: {repair}copy those files again.')
    if compared and compared['mean_kl'] > args.tolerance:
        raise UserError(f"The teacher differs from {args.store} by {compared['mean_kl']:.2e} nats on average, more "
                        f'than {args.tolerance:g}: the store or the teacher is another one than was saved.')


def ask_again(args: argparse.Namespace) -> dict[str, float]:
    """Ask the teacher again about some records, and compare its answers with the store's."""
    with redirect_stdout(sys.stderr):  # where the logs go; the result alone is for stdout
        from mmtinyvit.config import saving_loop
        from mmtinyvit.engine.runner import TeacherRunner

        from .runner import build_runner, check_data, load_config

        cfg = load_config(args)
        loop = saving_loop(cfg, args.config)
        check_data(cfg, 'test_dataloader')
        loop.update(type='mmtinyvit.CheckLogitsLoop', store=args.store, num_records=args.records)
        return build_runner(cfg, TeacherRunner).test()


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


# ---------------------------------------------------------------- with a config; only these import torch and MMEngine
def stats(args: argparse.Namespace) -> None:
    store = LogitStore(args.store)
    with redirect_stdout(sys.stderr):
        from mmtinyvit.apis.pictures import draw_stats
        from mmtinyvit.apis.store_stats import measure_store, name_classes, pick_views
        from mmtinyvit.engine.store_check import check_dataset

        from .runner import build_dataset, load_config

        dataset = build_dataset(load_config(args))
        check_dataset(store, dataset, any_order=True, labels=not args.label_index)
        views = pick_views(store, args.views)
        measured = measure_store(store, dataset, views, args.samples, args.worst, args.label_index, watched_units)
        classes = name_classes(store, dataset, args.classes)
        if args.out:
            draw_stats(measured, args.out)
            measured['plots'] = args.out

    def name(label: int) -> Text:
        return Text(printable(classes[label]) if classes else f'class {label}')

    tables = [fact_table({
        'store': args.store,
        'samples': measured['samples'],
        'views': measured['views'],
        "teacher's top-1, top-5": f"{measured['top1']:.2%}, {measured['top5']:.2%}",
        'same top-1 in all views': f"{measured['same_top1']:.2%}",
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


def clean(args: argparse.Namespace) -> None:
    store = LogitStore(args.store)
    with redirect_stdout(sys.stderr):
        import numpy as np

        from mmtinyvit.apis.store_cleaning import keep_samples, measure_support
        from mmtinyvit.apis.store_stats import pick_views
        from mmtinyvit.engine.store_check import check_dataset

        from .runner import build_dataset, load_config

        dataset = build_dataset(load_config(args))
        check_dataset(store, dataset, any_order=True, labels=not args.label_index)
        views = pick_views(store, args.views)
        support = measure_support(store, dataset, views, args.top, args.label_index, watched_units)
        kept = keep_samples(support, args.rule, args.share)
        if not kept.any():
            raise UserError(f'No label of {len(kept):,} is among the top {args.top} of the teacher of {args.store}, so '
                            'nothing would be left: check --label-index, or choose a larger --top or another --rule.')
        write_list(args.out, (store.key(position) for position in support.positions[kept]))
        lost = np.bincount(support.labels[~kept], minlength=store.num_classes)
        total = np.bincount(support.labels, minlength=store.num_classes)
    worst = [dict(label=int(label), lost=int(lost[label]), of=int(total[label]))
             for label in np.argsort(-lost, kind='stable')[:args.worst] if lost[label]]
    table = Table("label (teacher's class)", 'left out', 'of', title='Labels that lose most', title_justify='left')
    for row in worst:
        table.add_row(str(row['label']), f"{row['lost']:,}", f"{row['of']:,}")
    rule = f'{args.rule} of the views' if args.share is None else f'the best {args.share:.2%}'
    emit(args, dict(path=args.store, out=args.out, views=views, top=args.top, rule=args.rule, share=args.share,
                    kept=int(kept.sum()), left_out=int((~kept).sum()), labels=worst),
         fact_table({'store': args.store, 'views': views, 'label among the top': args.top, 'kept by': rule,
                     'kept': f'{kept.sum():,} of {len(kept):,} ({kept.mean():.2%})', 'wrote': args.out}),
         *([table] if worst else []))


def write_list(path: str, keys: Iterable[str]) -> None:
    """Write keys, one a line, in one piece. Raises :class:`UserError` if the file cannot be written."""
    try:
        write_atomically(Path(path).absolute(), (f'{key}\n'.encode() for key in keys))
    except OSError as error:
        raise UserError(f'{path} cannot be written ({error.strerror}): choose another --out.') from error


def gallery(args: argparse.Namespace) -> None:
    store = LogitStore(args.store) if args.store else None
    with redirect_stdout(sys.stderr):
        from mmtinyvit.apis.pictures import draw_views
        from mmtinyvit.apis.store_stats import measure_store, name_classes, pick_views
        from mmtinyvit.datasets.load_teacher_logits import LoadTeacherLogits
        from mmtinyvit.datasets.views import iter_transforms
        from mmtinyvit.engine.store_check import check_canaries

        from .runner import build_dataset, load_config

        cfg = load_config(args)
        dataset = build_dataset(cfg)
        places = configured_stores(cfg, dataset) if store is None else []
        if any(is_url(place) or Path(place).exists() for place in places):
            if len(places) > 1:
                raise UserError(f'The config {args.config} reads {len(places)} stores: name the one to draw.')
            store = LogitStore(places[0])
        for reader in filter(lambda t: isinstance(t, LoadTeacherLogits), iter_transforms(dataset)):
            reader.use(mode='online')  # the records come from the store that is drawn
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
            measured = measure_store(store, dataset, views, worst=args.rows, label_index=args.label_index)
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


def plan(args: argparse.Namespace) -> None:
    with redirect_stdout(sys.stderr):
        from mmtinyvit.apis.store_plan import check_limits, free_bytes, plan_store, recommend_views
        from mmtinyvit.config import saving_loop
        from mmtinyvit.engine.runner import TeacherRunner

        from .runner import build_runner, check_data, load_config

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


# ---------------------------------------------------------------- mending
def repair(args: argparse.Namespace) -> None:
    found = repair_store(args.store, args.yes, watched)
    views, following = found.incomplete_views, None
    if found.needed and not found.done:
        following = f'python tools/logit_store.py repair {args.store} --yes'
    elif views:
        following = f'{SAVE_AGAIN} {args.store} --views {views[0]}:{views[-1] + 1}'
    shards, leftovers = [str(path) for path in found.shards], [str(path) for path in found.leftovers]
    verb = 'removed' if found.done else 'would remove'
    emit(args, dict(path=args.store, done=found.done, damaged_shards=shards, leftovers=leftovers,
                    index_rebuilt=found.rebuild_index, problems=found.problems, incomplete_views=views,
                    run_next=following),
         fact_table({'store': args.store, f'{verb}: damaged shards': '\n'.join(shards) or '0',
                     f'{verb}: leftovers': '\n'.join(leftovers) or '0',
                     'samples.idx': ('made again' if found.done else 'would be made again') * found.rebuild_index,
                     'incomplete views': views}))
    if following and not args.json:
        print(f'Run next: {following}')
    if found.problems:
        raise UserError(f'{args.store} has damage that cannot be mended without another copy: {found.problems[0]}')


# ---------------------------------------------------------------- making new stores
def copy(args: argparse.Namespace) -> None:
    copied = copy_store(args.source, args.destination, args.views, watched_units)
    emit(args, dict(path=args.destination, **copied._asdict()),
         fact_table({'copied': args.source, 'to': args.destination, 'views': copied.views,
                     'shards copied': copied.copied, 'there already': copied.present, 'bytes copied': copied.num_bytes,
                     'incomplete at the source': copied.incomplete_views or None}))


def merge(args: argparse.Namespace) -> None:
    merged = merge_stores(args.stores, args.out, watched_units)
    emit(args, dict(path=args.out, **vars(merged)),
         fact_table({'merged': f'{merged.kind} of {len(args.stores)} stores', 'into': args.out,
                     'samples': merged.num_samples, 'views': merged.views,
                     'views left out': merged.left_out or None,
                     'found in several': merged.overlaps, 'shards written': merged.written,
                     'versions differ (first kept)': '\n'.join(merged.versions)}))


def reshard(args: argparse.Namespace) -> None:
    result = reshard_store(args.store, args.out, args.samples_per_shard, args.views, watched_units)
    emit(args, dict(path=args.out, **result._asdict()),
         fact_table({'resharded': args.store, 'into': args.out, 'views': result.views,
                     'shards per view': result.shards, 'shards written': result.written,
                     'canaries kept': result.canaries, 'shards without a canary': result.without_canary or None}))


def import_cream(args: argparse.Namespace) -> None:
    result = cream.import_cream(args.folder, args.keys, args.out, args.num_classes, args.key_form, args.topk,
                                args.epochs, args.codec, args.teacher, watched_units)
    emit(args, dict(path=args.out, **result._asdict()),
         fact_table({'imported': args.folder, 'into': args.out, 'samples': result.num_samples,
                     'views': result.views, 'top K': result.topk, 'shards written': result.written,
                     'records of unlisted samples': result.unknown, 'records found twice': result.repeated,
                     'replay': 'NONE: these views cannot be made again, so no student can be trained on them'}))
