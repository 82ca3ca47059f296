"""Find a small TinyViT of your own: contract a large one, step by step, by what its candidates learn from a store.

    mmtinyvit contract configs/tinyvit/tiny_vit_21m_distill_in1k.py --params 5.4M --throughput 1.5x --out DIR

Candidates are neighbours of the best so far that keep within each step's limits of parameters and throughput. They are
trained for a short time from the store and judged by their divergence from the teacher on keys that were held out.
Interrupted, the same command goes on where it was. DIR/winner.py is a recipe for ``mmtinyvit train``.
"""
import argparse
import re
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import fields
from pathlib import Path
from typing import Any

from mmtinyvit.errors import UserError

from .command import add_config_options, from_zero, positive

__all__ = ['ON_INTERRUPT', 'build_parser', 'main']

ON_INTERRUPT = 'Interrupted: the same command goes on where it was.'
UNITS = {'': 1, 'K': 1e3, 'M': 1e6}


def parameters(text: str) -> int:
    """``'5.4M'``, ``'900k'`` or ``'5400000'`` as a number, for argparse."""
    found = re.fullmatch(r'(\d+(?:\.\d+)?)([kKmM]?)', text.replace('_', ''))
    if not found or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f'{text!r} is no number of parameters, for example 5.4M or 900k')
    return round(float(found[1]) * UNITS[found[2].upper()])


def throughput(text: str) -> tuple[float, bool]:
    """``'1.5x'`` as 1.5 and True, ``'400'`` as 400 and False, for argparse."""
    found = re.fullmatch(r'(\d+(?:\.\d+)?)(x?)', text)
    if not found or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f'{text!r} is no throughput: give times the seed\'s, for example 1.5x, or '
                                         'images per second')
    return float(found[1]), bool(found[2])


def share(text: str) -> float:
    """A number above 0 and at most 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not more than 0 and at most 1')
    return value


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Contract a TinyViT, step by step, from a store.')
    parser.add_argument('config', help='distillation recipe, whose student is the seed')
    parser.add_argument('--params', type=parameters, required=True, metavar='N', dest='parameters',
                        help='at most so many parameters with the head, for example 5.4M')
    parser.add_argument('--classes', type=positive, metavar='C',
                        help="of the head that --params counts, for a student that will be finetuned (default: the "
                        "recipe's)")
    parser.add_argument('--throughput', type=throughput, metavar='N|Nx',
                        help="at least so many images per second, or times the seed's (default: no limit)")
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of the search')

    steps = parser.add_argument_group('steps')
    steps.add_argument('--steps', type=positive, default=3, help='from the seed to the target (default: 3)')
    steps.add_argument('--slack', type=share, default=0.1,
                       help="parameters of a candidate below its step's limit, as a share (default: 0.1)")
    steps.add_argument('--keep', type=positive, default=2, help='bases of the next step (default: 2)')
    steps.add_argument('--candidates', type=positive, default=12, help='trained in each step (default: 12)')
    steps.add_argument('--measured', type=positive, default=48,
                       help='whose throughput is measured in each step (default: 48)')
    steps.add_argument('--moves', type=positive, default=4, help='factors that a neighbour changes (default: 4)')
    steps.add_argument('--reach', type=positive, default=4, help='values that a factor moves by (default: 4)')
    steps.add_argument('--factors', nargs='+', metavar='FACTOR',
                       help='what may move, of D N W R M E, or of one stage such as D3 (default: all)')
    steps.add_argument('--space', nargs='+', default=[], metavar='FACTOR=VALUES',
                       help='values of factors: D=32:448:32 (first, last, step), N=1:6, W=7,14')
    steps.add_argument('--seed', type=from_zero, default=0, help='of all draws (default: 0)')

    training = parser.add_argument_group('short trainings')
    training.add_argument('--epochs', type=positive, default=9, help='of a whole short training (default: 9)')
    training.add_argument('--first-rung', type=positive, default=1, metavar='EPOCHS',
                          help='after which the weakest stop (default: 1)')
    training.add_argument('--eta', type=positive, default=3,
                          help='one in so many goes on, for so many times as long (default: 3)')
    training.add_argument('--share', type=share, default=1., help='of the keys to learn from (default: 1)')
    training.add_argument('--held-out', type=share, default=0.01, help='share of the keys to judge by (default: 0.01)')
    training.add_argument('--judge', choices=['divergence', 'accuracy'], default='divergence',
                          help="by the divergence from the teacher on held-out keys, or by the top-1 accuracy of the "
                          "recipe's validation (default: divergence)")
    training.add_argument('--inherit', action='store_true', help='start from the overlapping weights of the base')
    training.add_argument('--checkpoint', help='weights of the seed, for its children to inherit')
    training.add_argument('--amp', action='store_true', help='train with automatic mixed precision (needs a GPU)')

    machine = parser.add_argument_group('machine')
    machine.add_argument('--device', default='cpu', help='where throughput is measured: cpu, cuda, cuda:1 '
                         '(default: cpu); trainings take a GPU if there is one')
    machine.add_argument('--batch-size', type=positive, default=32, help='of the throughput (default: 32)')
    machine.add_argument('--jobs', type=positive, default=1,
                         help='candidates trained side by side; GPUs take turns (default: 1)')
    machine.add_argument('--ray', nargs='?', const='', metavar='ADDRESS',
                         help='train on a Ray cluster that shares the files of this machine')
    add_config_options(parser)
    return parser


def check(args: argparse.Namespace) -> None:
    """Raises :class:`UserError` if flags do not go together."""
    if args.eta < 2:
        raise UserError('--eta 1 stops nobody: give 2 or more.')
    if args.first_rung > args.epochs:
        raise UserError(f'--first-rung {args.first_rung} is more than --epochs {args.epochs}: give less.')
    if args.keep > args.candidates:
        raise UserError(f'--keep {args.keep} is more than --candidates {args.candidates}: give less.')
    if args.checkpoint and not args.inherit:
        raise UserError('--checkpoint has weights to inherit: give --inherit too.')
    if args.checkpoint and not Path(args.checkpoint).is_file():
        raise UserError(f'There is no checkpoint {args.checkpoint}: check the path.')


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    check(args)
    # seconds: not for --help
    from mmengine.device import get_device

    from mmtinyvit.config import read_config
    from mmtinyvit.contraction.halving import import_optuna
    from mmtinyvit.contraction.progress import ContractionProgress
    from mmtinyvit.contraction.recipe import Recipe
    from mmtinyvit.contraction.search import Search
    from mmtinyvit.contraction.settings import Settings
    from mmtinyvit.contraction.space import parse_values
    from mmtinyvit.contraction.throughput import require_device

    from .runner import check_data

    import_optuna()
    require_device(args.device)
    if args.amp and get_device() == 'cpu':
        raise UserError('--amp needs a GPU, and none is found here: train without it.')
    cfg = read_config(args.config, args.cfg_options)
    for loader in ('train_dataloader', *(['val_dataloader'] if args.judge == 'accuracy' else [])):
        check_data(cfg, loader)
    given = {field.name: getattr(args, field.name) for field in fields(Settings) if hasattr(args, field.name)}
    given['throughput'], given['relative'] = args.throughput or (None, True)
    settings = Settings(**given, values=dict(map(parse_values, args.space)))
    with ContractionProgress(settings) as progress, _executor(args) as executor:
        search = Search(Recipe(cfg, args.classes), settings, args.out, progress)
        kept = search.run(executor, args.jobs)
    _report(search, kept)


def _executor(args: argparse.Namespace) -> Executor:
    from mmtinyvit.contraction.executors import Here, OnRay, Processes

    from .config_faults import config_fault

    if args.ray is not None:
        from mmengine.device import get_device

        from .ray_saving import connect
        return OnRay(connect(args.ray), float(get_device() != 'cpu'), config_fault)
    return Processes(args.jobs, config_fault) if args.jobs > 1 else Here()


def _report(search: Any, kept: Sequence[Any]) -> None:
    """Write table, picture and the winner's recipe, and print the best."""
    from mmtinyvit.contraction.report import UNITS, read_rows, write_picture, write_table, write_winner

    from .tables import fact_table, print_tables, row_table

    out, judge, recipe = search.out, search.settings.judge, search.recipe
    rows = read_rows(out)
    write_table(rows, judge, out / 'contraction.md')
    write_picture(rows, judge, out / 'contraction.png')
    write_winner(recipe, kept[0], out / 'winner.py')
    table = row_table('step', 'architecture', 'parameters', 'images/s', UNITS[judge], words=('architecture', ),
                      title=f'The best of {len(rows)} candidates')
    seed, = search.throughput.of([recipe.seed])
    table.add_row('seed', recipe.seed.name, f'{recipe.parameters(recipe.seed):,}', f'{seed:,.0f}', '')
    for row in rows:
        if row.kept:
            table.add_row(str(row.step), row.name, f'{row.parameters:,}', f'{row.images_per_s:,.0f}',
                          f'{row.value:.4f}')
    print_tables(table, fact_table({'winner': kept[0].name, 'recipe': out / 'winner.py',
                                    'all candidates': out / 'contraction.md', 'picture': out / 'contraction.png'}))
