"""Stores that are checked, mended and put together: ``verify``, ``repair``, ``copy``, ``merge`` and others."""
import argparse
import sys
from contextlib import redirect_stdout

from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore, verify_store
from mmtinyvit.store.admin import import_cream as cream
from mmtinyvit.store.admin.copying import copy_store
from mmtinyvit.store.admin.merge import merge_stores
from mmtinyvit.store.admin.repair import repair_store
from mmtinyvit.store.admin.reshard import reshard_store
from mmtinyvit.store.folders import is_url
from mmtinyvit.store.layout import INDEX_NAME, TEXT_NAME

from ..tables import fact_table
from .output import emit, watched, watched_units

__all__ = ['copy', 'import_cream', 'merge', 'repair', 'reshard', 'verify']

SAVE_AGAIN = 'mmtinyvit save CONFIG CHECKPOINT --out'


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
        repair = '' if is_url(args.store) else f'run "mmtinyvit store repair {args.store}", or '
        raise UserError(f'{args.store} has {len(damaged)} damaged files: {repair}copy those files again.')
    if compared and compared['mean_kl'] > args.tolerance:
        raise UserError(f"The teacher differs from {args.store} by {compared['mean_kl']:.2e} nats on average, more "
                        f'than {args.tolerance:g}: the store or the teacher is another one than was saved.')


def ask_again(args: argparse.Namespace) -> dict[str, float]:
    """Ask the teacher again about some records, and compare its answers with the store's."""
    with redirect_stdout(sys.stderr):  # where the logs go; the result alone is for stdout
        from mmtinyvit.config import saving_loop
        from mmtinyvit.engine.runner import TeacherRunner

        from ..runner import build_runner, check_data, load_config

        cfg = load_config(args)
        loop = saving_loop(cfg, args.config)
        check_data(cfg, 'test_dataloader')
        loop.update(type='mmtinyvit.CheckLogitsLoop', store=args.store, num_records=args.records)
        return build_runner(cfg, TeacherRunner).test()


def repair(args: argparse.Namespace) -> None:
    found = repair_store(args.store, args.yes, watched)
    views, following = found.incomplete_views, None
    if found.needed and not found.done:
        following = f'mmtinyvit store repair {args.store} --yes'
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
