"""The subcommands of ``tools/logit_store.py``: each calls the library and shows what it found."""
import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from typing import Any

from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from mmtinyvit.errors import UserError
from mmtinyvit.store import Finding, LogitStore, verify_store
from mmtinyvit.store.admin import import_cream as cream
from mmtinyvit.store.admin.copying import copy_store
from mmtinyvit.store.admin.merge import merge_stores
from mmtinyvit.store.admin.repair import repair_store
from mmtinyvit.store.admin.reshard import reshard_store
from mmtinyvit.store.admin.summary import describe_sample, describe_store, is_replayable, read_class_names
from mmtinyvit.store.layout import INDEX_NAME, TEXT_NAME, spell_numbers
from mmtinyvit.store.remote_folder import is_url

from .tables import compared_table, fact_table, info_table, plan_tables, sample_table, stats_tables

__all__ = ['copy', 'gallery', 'import_cream', 'info', 'merge', 'plan', 'repair', 'reshard', 'show', 'stats', 'verify']

SAVE_AGAIN = 'python tools/save_logits.py CONFIG CHECKPOINT --out'


# ---------------------------------------------------------------- output
def emit(args: argparse.Namespace, result: dict[str, Any], *tables: Table) -> None:
    """The result as one JSON object, or as tables."""
    if args.json:
        print(json.dumps(result, indent=2))
    for table in () if args.json else tables:
        Console().print(table)


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
    emit(args, store, info_table(store))


def verify(args: argparse.Namespace) -> None:
    findings = list(watched(verify_store(args.store)))
    problems = [finding.problem for finding in findings if finding.problem]
    if len(findings) == 1 and problems:  # no manifest, so there is nothing to check
        raise UserError(problems[0])
    damaged = sorted({str(finding.path) for finding in findings if finding.problem})
    facts, coverage = {}, {}
    if not any(path.endswith((TEXT_NAME, INDEX_NAME)) for path in damaged):  # it can be opened
        store = LogitStore(args.store)
        coverage = store.coverage()
        facts = {'samples': store.num_samples, 'classes': f'top {store.topk} of {store.num_classes:,}',
                 'codec': f'{store.codec}, {store.bytes_per_view:g} bytes per view'}
    partial = [view for view, shards in coverage.items() if shards.present < shards.expected]
    if not args.json:  # at once: the teacher may take long
        emit(args, {}, fact_table({
            'store': args.store, 'files checked': findings[-1].total, 'damaged': len(damaged), **facts,
            'complete views': len(coverage) - len(partial), 'incomplete views': spell_numbers(partial),
            'problems': '\n'.join(problems)}))
    compared = ask_again(args) if args.config and not damaged else None
    emit(args, dict(path=args.store, files=findings[-1].total, damaged=damaged, problems=problems,
                    views={view: shards._asdict() for view, shards in coverage.items()}, incomplete_views=partial,
                    teacher=compared), *([compared_table(compared)] if compared else []))
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

        from .runner import build_teacher_runner, check_data, load_config, use_checkpoint

        cfg = load_config(args)
        use_checkpoint(cfg, args.checkpoint)
        check_data(cfg, 'test_dataloader')
        saving_loop(cfg, args.config).update(type='mmtinyvit.CheckLogitsLoop', store=args.store,
                                              num_records=args.records)
        return build_teacher_runner(cfg).test()


def show(args: argparse.Namespace) -> None:
    store = LogitStore(args.store)
    names = read_class_names(args.classes, store.num_classes) if args.classes else None
    sample = describe_sample(store, args.key, args.views and range(*args.views), args.top, names)
    emit(args, sample, sample_table(sample))


# ---------------------------------------------------------------- with a config; only these import torch and MMEngine
def stats(args: argparse.Namespace) -> None:
    store = LogitStore(args.store)
    with redirect_stdout(sys.stderr):
        from mmtinyvit.apis.pictures import draw_stats
        from mmtinyvit.apis.store_stats import measure_store, pick_views
        from mmtinyvit.engine.store_check import check_dataset

        from .runner import build_dataset, load_config

        dataset = build_dataset(load_config(args))
        check_dataset(store, dataset, any_order=True)
        views = pick_views(store, args.views and range(*args.views))
        measured = measure_store(store, dataset, views, args.samples, args.worst, args.label_index, watched_units)
        if args.out:
            measured['plots'] = str(draw_stats(measured, args.out))
    emit(args, dict(path=args.store, **measured),
         *stats_tables(args.store, measured, None if args.label_index else dataset.metainfo.get('classes')))


def gallery(args: argparse.Namespace) -> None:
    store = LogitStore(args.store) if args.store else None
    with redirect_stdout(sys.stderr):
        from mmtinyvit.apis.pictures import draw_views
        from mmtinyvit.apis.store_stats import measure_store, pick_views
        from mmtinyvit.config import saves_logits, saving_loop
        from mmtinyvit.datasets.load_teacher_logits import find_store
        from mmtinyvit.engine.store_check import check_canaries

        from .runner import build_dataset, load_config

        cfg = load_config(args)
        dataset = build_dataset(cfg)
        if store is None:
            saved = saving_loop(cfg, args.config).store if saves_logits(cfg) else None
            store = LogitStore(saved) if saved else find_store(dataset, cfg)
        if not is_replayable(store.manifest):
            raise UserError(f'The views of {store.root} cannot be made again, so there is nothing to draw.')
        views = pick_views(store, range(*args.views))
        check_canaries(store, dataset, views, 2, any_order=True)
        if args.index:
            rows = args.index
        elif args.hardest:
            measured = measure_store(store, dataset, views, worst=args.rows, label_index=args.label_index)
            rows = [row['index'] for row in measured['disagreements']]
        else:
            rows = sorted({round(i * (len(dataset) - 1) / max(args.rows - 1, 1)) for i in range(args.rows)})
        out = draw_views(store, dataset, args.out, rows, views, args.top)
    emit(args, dict(path=str(store.root), picture=str(out), rows=rows, views=views),
         fact_table({'wrote': out, 'samples': ', '.join(map(str, rows)), 'views': spell_numbers(views)}))


def plan(args: argparse.Namespace) -> None:
    with redirect_stdout(sys.stderr):
        from mmtinyvit.apis.store_plan import check_limits, free_bytes, plan_store, recommend_views
        from mmtinyvit.config import saving_loop

        from .runner import build_teacher_runner, check_data, load_config, use_checkpoint

        cfg = load_config(args)
        use_checkpoint(cfg, args.checkpoint)
        loop = saving_loop(cfg, args.config)
        room = free_bytes(loop.get('store', '.')) if args.disk is None else int(args.disk * 2**30)
        check_limits(room, args.hours)
        check_data(cfg, 'test_dataloader')
        planned = plan_store(cfg, build_teacher_runner(cfg).model, args.images, args.views, args.max_kl)
        best = planned['recommended']
        advice = recommend_views(planned['views'], best['total_bytes'], planned['hours'], room, args.hours)
    reasons = {'wanted': 'all that are wanted', 'room': f'what {room / 2**30:,.1f} GiB hold',
               'time': f'what the teacher computes in {args.hours} hours'}
    emit(args, dict(config=args.config, **planned, recommended_views=advice),
         *plan_tables(args.config, planned, args.max_kl),
         fact_table({'recommended views': f"{advice['views']} ({reasons[advice['limit']]}): "
                                          f"{advice['bytes'] / 2**30:,.2f} GiB, {advice['hours']:,.2f} hours"}))


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
                     'incomplete views': spell_numbers(views)}))
    if following and not args.json:
        print(f'Run next: {following}')
    if found.problems:
        raise UserError(f'{args.store} has damage that cannot be mended without another copy: {found.problems[0]}')


# ---------------------------------------------------------------- making new stores
def copy(args: argparse.Namespace) -> None:
    copied = copy_store(args.source, args.destination, args.views and range(*args.views), watched_units)
    emit(args, dict(path=args.destination, **copied._asdict()),
         fact_table({'copied': args.source, 'to': args.destination, 'views': spell_numbers(copied.views),
                     'shards copied': copied.copied, 'there already': copied.present, 'bytes copied': copied.num_bytes,
                     'incomplete at the source':
                         copied.incomplete_views and spell_numbers(copied.incomplete_views)}))


def merge(args: argparse.Namespace) -> None:
    merged = merge_stores(args.stores, args.out, watched_units)
    emit(args, dict(path=args.out, **vars(merged)),
         fact_table({'merged': f'{merged.kind} of {len(args.stores)} stores', 'into': args.out,
                     'samples': merged.num_samples, 'views': spell_numbers(merged.views),
                     'views left out': merged.left_out and spell_numbers(merged.left_out),
                     'found in several': merged.overlaps, 'shards written': merged.written,
                     'versions differ (first kept)': '\n'.join(merged.versions)}))


def reshard(args: argparse.Namespace) -> None:
    views = range(*args.views) if args.views else None
    result = reshard_store(args.store, args.out, args.samples_per_shard, views, watched_units)
    emit(args, dict(path=args.out, **result._asdict()),
         fact_table({'resharded': args.store, 'into': args.out, 'views': spell_numbers(result.views),
                     'shards per view': result.shards, 'shards written': result.written,
                     'canaries kept': result.canaries, 'shards without a canary': result.without_canary or None}))


def import_cream(args: argparse.Namespace) -> None:
    epochs = range(*args.epochs) if args.epochs else None
    result = cream.import_cream(args.folder, args.keys, args.out, args.num_classes, args.key_form, args.topk, epochs,
                                args.codec, args.teacher, watched_units)
    emit(args, dict(path=args.out, **result._asdict()),
         fact_table({'imported': args.folder, 'into': args.out, 'samples': result.num_samples,
                     'views': spell_numbers(result.views), 'top K': result.topk, 'shards written': result.written,
                     'records of unlisted samples': result.unknown, 'records found twice': result.repeated,
                     'replay': 'NONE: these views cannot be made again, so no student can be trained on them'}))
