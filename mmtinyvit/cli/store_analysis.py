"""The subcommands of ``mmtinyvit store`` that look at a store as a whole: class correlation, and the report."""
import argparse
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

from rich.text import Text

from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore
from mmtinyvit.store.admin.summary import is_replayable

from .command import add_config_options, parse_range, positive, printable
from .store_commands.labels import accuracy_facts, agreement_facts, label_index
from .store_commands.output import emit, watched_units
from .tables import fact_table, row_table

__all__ = ['add_analysis', 'correlation', 'report']

CHECKPOINTS = ('.pth', '.pt', '.ckpt', '.bin', '.safetensors')
RECORDS, STUDENT_RECORDS = 200_000, 20_000  # read by default; a student computes each of its own


def add_analysis(command: Callable[..., argparse.ArgumentParser], *names: Callable) -> None:
    """Add the subcommands; ``names`` add the flags that name labels and classes."""
    add_label_index, add_class_names = names
    sub = command(report, 'Write a page about a store: its teacher, its hardest images, its most suspicious labels.')
    sub.add_argument('store', help='folder or URL of the store')
    sub.add_argument('--config', help='config of the teacher or of a student: it has the images, and their labels if '
                     'there are any (default: neither is shown)')
    sub.add_argument('--out', default='report.html', metavar='HTML', help='page to write (default: report.html)')
    sub.add_argument('--views', type=parse_range, metavar='A:B',
                     help='views A to B - 1 (default: the complete ones, at most 8, spread evenly)')
    sub.add_argument('--samples', type=positive, default=20_000, metavar='N',
                     help='look at N samples, spread evenly, or at all if there are fewer (default: 20,000)')
    sub.add_argument('--worst', type=positive, default=12, help='how many images of each kind to show (default: 12)')
    add_label_index(sub)
    add_class_names(sub)
    add_config_options(sub)

    sub = command(correlation, 'How the classes of a teacher are correlated, and how alike the maps of others are.')
    sub.add_argument('store', help='folder or URL of the store')
    sub.add_argument('others', nargs='*', metavar='STORE|CHECKPOINT',
                     help='other stores, or checkpoints of students, which see the same views')
    sub.add_argument('--config', nargs='+', metavar='CONFIG',
                     help="of the checkpoints: one for all, or one for each; the first has the images")
    sub.add_argument('--views', type=parse_range, metavar='A:B', help='views A to B - 1 (default: all complete ones)')
    sub.add_argument('--samples', type=positive, metavar='N', help='N samples, spread evenly (default: such that '
                     f'{RECORDS:,} records are read, or {STUDENT_RECORDS:,} with checkpoints; fewer if they are long)')
    sub.add_argument('--show', type=positive, default=40, metavar='N',
                     help='classes in the picture, those that are found most often (default: 40)')
    sub.add_argument('--pairs', type=positive, default=10, help='pairs of classes to list (default: 10)')
    add_class_names(sub)
    sub.add_argument('--out', metavar='PNG', help='draw the maps into this file')
    add_config_options(sub)


def correlation(args: argparse.Namespace) -> None:
    paths = [args.store, *args.others]
    checkpoints = [path for path in args.others if path.endswith(CHECKPOINTS)]
    configs = _configs(args.config or [], checkpoints)
    stores = {path: LogitStore(path) for path in paths if path not in checkpoints}
    store = stores[args.store]
    with redirect_stdout(sys.stderr):
        from mmtinyvit.apis.class_correlation import LEAST, compare_maps, correlate_store, correlated_pairs
        from mmtinyvit.apis.pictures import draw_correlation
        from mmtinyvit.apis.store_samples import choose_samples, spread
        from mmtinyvit.apis.store_stats import name_classes, pick_views, sample_positions

        cfgs = [_load(args, config) for config in configs]
        dataset = _dataset(cfgs[0], stores.values()) if cfgs else None
        views = pick_views(store, args.views)
        records = STUDENT_RECORDS if checkpoints else RECORDS
        samples = choose_samples(store, args.samples or _most_samples(store, views, records), dataset)
        if checkpoints:
            _check_replay(store, dataset, views)
        maps, kinds, students = [], [], iter(cfgs)
        for path in paths:
            if path in stores:
                other = stores[path]
                own = pick_views(other, args.views) if path != args.store else views
                most = args.samples or _most_samples(other, own, records)
                positions = (spread(sample_positions(dataset, samples.indices, other), most) if dataset is not None
                             else choose_samples(other, most).positions)
                numbers = _numbers(store, other.manifest.class_names, other.num_classes, other.root)
                maps.append(correlate_store(other, own, positions, watch=watched_units, numbers=numbers))
            else:
                from mmtinyvit.apis.student_outputs import build_student, correlate_student
                from mmtinyvit.engine.label_check import num_outputs
                from mmtinyvit.evaluation.class_map import checkpoint_classes
                from mmtinyvit.models.checkpoints import read_checkpoint

                student, loader = build_student(next(students), path), _loader(cfgs[0])
                called = checkpoint_classes(read_checkpoint(path)[1])
                numbers = _numbers(store, called, num_outputs(student) or store.num_classes, path)
                maps.append(correlate_student(
                    student, dataset, views, samples.indices, store.topk, path,
                    loader.get('batch_size', 64), loader.get('num_workers', 0), watched_units, numbers))
            kinds.append('store' if path in stores else 'checkpoint')
            if maps[0].known.sum() < 2:
                raise UserError(f'Of the classes of {store.root}, {maps[0].known.sum()} are in {LEAST} or more of the '
                                f'{maps[0].num_records:,} records: read more with --samples or --views.')
        compared = compare_maps(maps, watch=watched_units)
        pairs = correlated_pairs(maps[0], args.pairs, watched_units)
        names = name_classes(store, dataset, args.classes)
        shown = maps[0].most_frequent(args.show)
        if args.out:
            draw_correlation(maps, shown, args.out, names)
    _print(args, maps, kinds, compared, pairs, names, dict(views=views, samples=len(samples.positions),
                                                           of=samples.total, picture=args.out))


def _print(args: argparse.Namespace, maps: Sequence[Any], kinds: Sequence[str], compared: Any,
           pairs: Sequence[tuple[int, int, float]], names: Sequence[str] | None, facts: dict[str, Any]) -> None:
    from mmtinyvit.apis.class_correlation import LEAST_CLASSES

    def name(label: int) -> Text:
        return Text(printable(names[label]) if names else f'class {label}')

    def number(value: float) -> float | None:
        return None if math.isnan(value) else float(value)

    network, first = 'network', 'like the first'
    table = row_table(network, 'records', 'classes', 'in common', 'strength', first, words=(network, ),
                      title='Class correlation')
    for row, found in enumerate(maps):
        alike, common = number(compared.alike[0, row]), compared.classes[0, row]
        shown = f'{alike:.3f}' if alike is not None else 'too few' if common < LEAST_CLASSES else 'flat'
        table.add_row(Text(printable(found.name)), f'{found.num_records:,}', f'{found.known.sum():,}',
                      f'{common:,}' if row else '', f'{compared.strength[row]:.4f}', shown if row else '')
    together = [maps[0].together(one, other) for one, other, _ in pairs]
    listed = row_table('class', 'and', 'records with both', 'correlation', words=('class', 'and'),
                       title='Classes correlated most')
    for (one, other, value), records in zip(pairs, together, strict=True):
        listed.add_row(name(one), name(other), f'{records:,}', f'{value:.3f}')
    maps_json = [dict(name=found.name, kind=kind, records=found.num_records, classes=int(found.known.sum()),
                      strength=float(strength)) for found, kind, strength in
                 zip(maps, kinds, compared.strength, strict=True)]
    emit(args, dict(path=args.store, **facts, maps=maps_json,
                    alike=[[number(value) for value in row] for row in compared.alike],
                    classes_in_common=compared.classes.tolist(),
                    pairs=[{'class': one, 'other': other, 'correlation': value, 'records': records}
                           for (one, other, value), records in zip(pairs, together, strict=True)]),
         fact_table({'store': args.store, 'samples': f'{facts["samples"]:,} of {facts["of"]:,}',
                     'views': facts['views'], 'picture': args.out}), table, *([listed] if pairs else []))


def report(args: argparse.Namespace) -> None:
    store = LogitStore(args.store)
    with redirect_stdout(sys.stderr):
        from mmtinyvit.apis.report import write_report
        from mmtinyvit.apis.store_stats import pick_views

        from .runner import build_dataset

        dataset = None
        if args.config:
            dataset = build_dataset(_load(args, args.config))
        elif args.label_index:
            raise UserError('--label-index says what the labels of images are called, and no --config has images: give '
                            'both, or neither.')
        views = pick_views(store, args.views) if args.views else None
        summary = write_report(store, args.out, dataset, views, args.samples, args.worst, label_index(args),
                               args.classes, watched_units)
    labelled = {**accuracy_facts(summary, store.topk), 'calibration error': f"{summary['calibration_error']:.2%}"
                } if 'top1' in summary else {}
    emit(args, dict(path=args.store, out=args.out, **summary),
         fact_table({'store': args.store, 'samples': f"{summary['samples']:,} of {summary['of']:,}",
                     'views': summary['views'], **labelled, 'mean entropy': f"{summary['entropy']:.3f} nats",
                     **agreement_facts(summary), 'wrote': args.out}))


def _most_samples(store: LogitStore, views: Sequence[int], records: int) -> int:
    """So many samples that at most ``records`` are read, and no more of their entries than memory should hold."""
    from mmtinyvit.apis.class_correlation import ENTRIES

    return max(1, min(records, ENTRIES // store.topk) // len(views))


def _numbers(store: LogitStore, names: Sequence[str] | None, num_classes: int, who: Any) -> Any:
    """The store's number of each class of another network; None if both number them alike, or one has no names."""
    from mmtinyvit.evaluation.class_map import require_classes, same_classes

    ours = store.manifest.class_names
    if num_classes != store.num_classes:
        raise UserError(f'{who} has {num_classes:,} classes, and the store {store.root} has {store.num_classes:,}: a '
                        'map is compared with one of the same classes.')
    if not ours or not names or len(names) != num_classes or same_classes(ours, names):
        return None
    return require_classes(ours, names, f'The store {store.root} has {{ours}}, and {who} has {{theirs}}',
                           'a map is compared with one of the same classes.')


# ---------------------------------------------------------------- configs
def _configs(configs: Sequence[str], checkpoints: Sequence[str]) -> list[str]:
    """A config for each checkpoint; without one, that of the images, if it is given."""
    if checkpoints and not configs:
        raise UserError(f'{checkpoints[0]} is a checkpoint, and nothing says which model it is of: give its --config.')
    if len(configs) > 1 and len(configs) != len(checkpoints):
        raise UserError(f'--config names {len(configs)} configs for {len(checkpoints)} checkpoints: give one for all, '
                        'or one for each, in order.')
    return [*configs] * len(checkpoints) if len(configs) < len(checkpoints) else [*configs]


def _load(args: argparse.Namespace, config: str) -> Any:
    from .runner import load_config

    return load_config(argparse.Namespace(config=config, cfg_options=args.cfg_options))


def _loader(cfg: Any) -> Any:
    from mmtinyvit.config import saves_logits

    return cfg['test_dataloader' if saves_logits(cfg) else 'train_dataloader']


def _dataset(cfg: Any, stores: Any) -> Any:
    """The dataset of a config, which all stores must have; a store that it reads is not asked."""
    from mmtinyvit.datasets.load_teacher_logits import ignore_stores
    from mmtinyvit.engine.store_check import check_dataset

    from .runner import build_dataset

    dataset = build_dataset(cfg)
    ignore_stores(dataset)
    for store in stores:
        check_dataset(store, dataset, any_order=True)
    return dataset


def _check_replay(store: LogitStore, dataset: Any, views: list[int]) -> None:
    """The views must be those that the teacher saw."""
    from mmtinyvit.engine.store_check import check_canaries

    if not is_replayable(store.manifest) or store.mixing:
        reason = 'are mixed in pairs' if store.mixing else 'cannot be made again'
        raise UserError(f'The views of {store.root} {reason}, so a student cannot be shown them: leave the checkpoints '
                        'out, or name a store of single views that can.')
    check_canaries(store, dataset, views, 2, any_order=True)
