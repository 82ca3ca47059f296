"""Look into a store of teacher logits, and look after it.

    python tools/logit_store.py info data/in21k_logits
    python tools/logit_store.py verify data/in21k_logits
    python tools/logit_store.py show data/in21k_logits n01440764/n01440764_18.JPEG --classes classes.txt
    python tools/logit_store.py stats data/in21k_logits --config configs/tinyvit/distill_in21k.py --out stats.png
    python tools/logit_store.py gallery data/in21k_logits --config configs/tinyvit/distill_in21k.py --hardest
    python tools/logit_store.py repair data/in21k_logits --yes
    python tools/logit_store.py merge views_0_to_44 views_45_to_89 --out data/in21k_logits
    python tools/logit_store.py reshard data/in21k_logits --samples-per-shard 16384 --out data/in21k_logits_small
    python tools/logit_store.py import-cream teacher_logits --keys samples.txt --num-classes 21841 --out data/imported

With ``--json``, each subcommand prints one JSON object for machines.
"""
import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from mmtinyvit.apis.command import run_command
from mmtinyvit.apis.ranges import parse_range
from mmtinyvit.apis.store_tables import fact_table, info_table, sample_table, stats_tables
from mmtinyvit.errors import UserError
from mmtinyvit.store import Finding, LogitStore, codec_names, read_manifest, verify_store
from mmtinyvit.store import import_cream as cream
from mmtinyvit.store.merge import merge_stores
from mmtinyvit.store.repair import repair_store
from mmtinyvit.store.reshard import reshard_store
from mmtinyvit.store.summary import describe_sample, describe_store, is_replayable, read_class_names, spell_views

SAVE_AGAIN = 'python tools/save_logits.py CONFIG CHECKPOINT --out'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Look into a store of teacher logits, and look after it.')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')

    def command(function: Any, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(function.__name__.replace('_', '-'), help=summary, description=summary)
        sub.add_argument('--json', action='store_true', help='print one JSON object')
        sub.set_defaults(run=function)
        return sub

    sub = command(info, 'What a store is a store of, and how much of it is there.')
    sub.add_argument('store', help='folder of the store')

    sub = command(verify, 'Check every byte; exit with status 1 if anything is damaged.')
    sub.add_argument('store', help='folder of the store')

    sub = command(show, 'What the teacher said about one sample.')
    sub.add_argument('store', help='folder of the store')
    sub.add_argument('key', help='the key of the sample: its path relative to the data root')
    sub.add_argument('--views', type=parse_range, metavar='A:B', help='views A to B - 1 (default: all)')
    sub.add_argument('--top', type=int, default=5, help='classes to list (default: 5)')
    sub.add_argument('--classes', metavar='FILE', help='class names, one per line')

    sub = command(repair, 'Remove damaged shards and what killed processes left; without --yes, only say so.')
    sub.add_argument('store', help='folder of the store')
    sub.add_argument('--yes', action='store_true', help='do it')

    sub = command(merge, 'Put stores together: views of the same samples, or samples of the same views.')
    sub.add_argument('stores', nargs='+', help='two or more stores; they are only read')
    sub.add_argument('--out', required=True, help='folder of the new store')

    sub = command(reshard, 'Write the records of a store into shards of another size.')
    sub.add_argument('store', help='folder of the store; it is only read')
    sub.add_argument('--out', required=True, help='folder of the new store')
    sub.add_argument('--samples-per-shard', type=int, required=True, metavar='N', help='samples per new shard')
    sub.add_argument('--views', type=parse_range, metavar='A:B', help='views A to B - 1 (default: all)')

    sub = command(import_cream, "Import the original TinyViT's logits as views that cannot be replayed.")
    sub.add_argument('folder', help="the original's DISTILL.TEACHER_LOGITS_PATH")
    sub.add_argument('--keys', required=True, metavar='FILE', help="sample keys in the dataset's order, one per line")
    sub.add_argument('--num-classes', type=int, required=True, help="the teacher's classes: 21841, or 1000")
    sub.add_argument('--out', required=True, help='folder of the new store')
    sub.add_argument('--key-form', choices=cream.KEY_FORMS, default='stem',
                     help='how the original named samples: by file name without suffix (ImageNet-22k, the default), by '
                          'place in the list (ImageNet-1k), or by path')
    sub.add_argument('--epochs', type=parse_range, metavar='A:B', help='epochs A to B - 1 (default: all)')
    sub.add_argument('--topk', type=int, help='K, if the folder has several')
    sub.add_argument('--codec', choices=codec_names(), default='exact', help='record codec (default: exact)')
    sub.add_argument('--teacher', default='unknown', help='name of the teacher, to be shown')

    sub = command(stats, 'Compare the teacher with the labels: accuracy, entropy, confusions, doubtful labels.')
    sub.add_argument('store', help='folder of the store')
    sub.add_argument('--config', required=True, help='config of the teacher or of a student: it has the dataset')
    sub.add_argument('--views', type=parse_range, metavar='A:B', help='views A to B - 1 (default: all complete ones)')
    sub.add_argument('--samples', type=int, metavar='N', help='only N samples, spread evenly')
    sub.add_argument('--worst', type=int, default=20, help='how many pairs and samples to list (default: 20)')
    sub.add_argument('--out', metavar='PNG', help='draw the plots into this file')
    sub.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override the config')

    sub = command(gallery, 'Draw views as the teacher saw them, with what it said and the label.')
    sub.add_argument('store', help='folder of the store')
    sub.add_argument('--config', required=True, help='config of the teacher or of a student: it has the dataset')
    sub.add_argument('--out', default='gallery.png', help='picture to write (default: gallery.png)')
    sub.add_argument('--rows', type=int, default=6, help='how many samples, spread evenly (default: 6)')
    sub.add_argument('--hardest', action='store_true', help='instead those on which teacher and label disagree most')
    sub.add_argument('--views', type=parse_range, default=(0, 4), metavar='A:B', help='views A to B - 1 (default: 0:4)')
    sub.add_argument('--top', type=int, default=3, help='classes to name (default: 3)')
    sub.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override the config')
    return parser.parse_args()


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
    read_manifest(Path(args.store))  # without one there is nothing to check
    findings = list(watched(verify_store(args.store)))
    problems = [finding.problem for finding in findings if finding.problem]
    damaged = sorted({str(finding.path) for finding in findings if finding.problem})
    openable = all(finding.path.parent != Path(args.store) for finding in findings if finding.problem)
    coverage = LogitStore(args.store).coverage() if openable else {}
    partial = [view for view, there in coverage.items() if there.present != there.expected]
    emit(args, dict(path=args.store, files=findings[-1].total, damaged=damaged, problems=problems,
                    views={view: there._asdict() for view, there in coverage.items()}, incomplete_views=partial),
         fact_table({'store': args.store, 'files checked': findings[-1].total, 'damaged': len(damaged),
                     'complete views': len(coverage) - len(partial), 'incomplete views': spell_views(partial),
                     'problems': '\n'.join(problems)}))
    if damaged:
        raise UserError(f'{args.store} has {len(damaged)} damaged files: run "python tools/logit_store.py repair '
                        f'{args.store}", or copy those files again.')


def show(args: argparse.Namespace) -> None:
    store = LogitStore(args.store)
    names = read_class_names(args.classes, store.num_classes) if args.classes else None
    sample = describe_sample(store, args.key, args.views and range(*args.views), args.top, names)
    emit(args, sample, sample_table(sample))


# ---------------------------------------------------------------- looking at teacher and labels
def labelled(args: argparse.Namespace, store: LogitStore) -> Any:
    """The dataset of ``--config``. Imported here, because the other subcommands need neither torch nor MMEngine."""
    from mmengine.registry import init_default_scope

    from mmtinyvit.apis.config import add_common_flags, load_config
    from mmtinyvit.apis.store_stats import build_labelled

    parser = argparse.ArgumentParser()
    add_common_flags(parser)
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    cfg = load_config(parser.parse_args([args.config, *options]))
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    return build_labelled(store, cfg)


def stats(args: argparse.Namespace) -> None:
    store = LogitStore(args.store)
    dataset = labelled(args, store)
    from mmtinyvit.apis.store_stats import draw_stats, measure_store, pick_views

    views = pick_views(store, args.views and range(*args.views))
    measured = measure_store(store, dataset, views, args.samples, args.worst, watched_units)
    if args.out:
        measured['plots'] = str(draw_stats(measured, args.out))
    emit(args, dict(path=args.store, **measured),
         *stats_tables(args.store, measured, getattr(dataset, 'metainfo', {}).get('classes')))


def gallery(args: argparse.Namespace) -> None:
    store = LogitStore(args.store)
    if not is_replayable(store.manifest):
        raise UserError(f'The views of {args.store} cannot be made again, so there is nothing to draw.')
    dataset = labelled(args, store)
    from mmtinyvit.apis.gallery import draw_views
    from mmtinyvit.apis.store_stats import measure_store, pick_views
    from mmtinyvit.engine.store_check import check_canaries

    views = pick_views(store, range(*args.views))
    check_canaries(store, dataset, views, 2)
    if args.hardest:
        rows = [row['index'] for row in measure_store(store, dataset, views, worst=args.rows)['disagreements']]
    else:
        rows = sorted({round(i * (len(dataset) - 1) / max(args.rows - 1, 1)) for i in range(args.rows)})
    out = draw_views(store, dataset, args.out, rows, views, args.top)
    emit(args, dict(path=args.store, picture=str(out), rows=rows, views=views),
         fact_table({'wrote': out, 'samples': ', '.join(map(str, rows)), 'views': spell_views(views)}))


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
                     'incomplete views': spell_views(views)}))
    if following and not args.json:
        print(f'Run next: {following}')
    if found.problems:
        raise UserError(f'{args.store} has damage that cannot be mended without another copy: {found.problems[0]}')


# ---------------------------------------------------------------- making new stores
def merge(args: argparse.Namespace) -> None:
    merged = merge_stores(args.stores, args.out, watched_units)
    emit(args, dict(path=args.out, **vars(merged)),
         fact_table({'merged': f'{merged.kind} of {len(args.stores)} stores', 'into': args.out,
                     'samples': merged.num_samples, 'views': spell_views(merged.views),
                     'views left out': spell_views(merged.left_out) * bool(merged.left_out),
                     'found in several': merged.overlaps, 'shards written': merged.written,
                     'versions differ (first kept)': '\n'.join(merged.versions)}))


def reshard(args: argparse.Namespace) -> None:
    views = range(*args.views) if args.views else None
    result = reshard_store(args.store, args.out, args.samples_per_shard, views, watched_units)
    emit(args, dict(path=args.out, **result._asdict()),
         fact_table({'resharded': args.store, 'into': args.out, 'views': spell_views(result.views),
                     'shards per view': result.shards, 'shards written': result.written,
                     'canaries kept': result.canaries}))


def import_cream(args: argparse.Namespace) -> None:
    epochs = range(*args.epochs) if args.epochs else None
    result = cream.import_cream(args.folder, args.keys, args.out, args.num_classes, args.key_form, args.topk, epochs,
                                args.codec, args.teacher, watched_units)
    emit(args, dict(path=args.out, **result._asdict()),
         fact_table({'imported': args.folder, 'into': args.out, 'samples': result.num_samples,
                     'views': spell_views(result.views), 'top K': result.topk, 'shards written': result.written,
                     'records of unlisted samples': result.unknown, 'records found twice': result.repeated,
                     'replay': 'NONE: these views cannot be made again, so no student can be trained on them'}))


def main() -> None:
    args = parse_args()
    args.run(args)


if __name__ == '__main__':
    run_command(main, 'Interrupted: finished shards are kept; the same command goes on.')
