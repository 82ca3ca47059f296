"""Does it pay? The claims of the papers, measured on real photos: from data to table, figure and JSON.

    MMTINYVIT_DATA=... python benchmarks/claims.py --list
    MMTINYVIT_DATA=... python benchmarks/claims.py pretraining [--quick] [--jobs 2]
    python benchmarks/claims.py --page

Each training is a process of its own, and its result is kept by the hash of its settings: interrupted, the same command
goes on where it was, and what is finished is never repeated. --page writes docs/en/evidence.md from the results.
"""
import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from evidence.claim import load_result, measure
from evidence.correlation import CORRELATION
from evidence.lab import Lab
from evidence.lengths import LENGTHS
from evidence.noise import NOISE
from evidence.online import ONLINE
from evidence.page import write_page
from evidence.photos import data_folder
from evidence.pretraining import PRETRAINING
from evidence.students import DEPLOYMENT, OTHER_STUDENTS
from evidence.sweeps import DATA_SCALE, LABEL_WEIGHT, TOPK, VIEWS
from evidence.teachers import TEACHERS
from evidence.tinymim import TINYMIM
from evidence.transfer import TRANSFER
from evidence.worker import carry_out
from rich.console import Console
from rich.table import Table

from mmtinyvit.cli.command import run_command
from mmtinyvit.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'benchmarks/evidence/results'
CLAIMS = {claim.name: claim for claim in (  # in the order of the page
    PRETRAINING, LENGTHS, LABEL_WEIGHT, TOPK, VIEWS, ONLINE, DATA_SCALE, TEACHERS, OTHER_STUDENTS, NOISE, CORRELATION,
    TINYMIM, TRANSFER, DEPLOYMENT)}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', metavar='NAME', help='claims to measure, one after the other')
    parser.add_argument('--list', action='store_true', help='show the claims, and what is measured of them')
    parser.add_argument('--quick', action='store_true', help='a miniature of a few photos, to see that a claim runs')
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), help='trainings at a time (default: a core each)')
    parser.add_argument('--threads', type=int, default=1, help='of each training (default: 1)')
    parser.add_argument('--work', type=Path, default=ROOT / 'work_dirs/claims', help='folder of stores and trainings')
    parser.add_argument('--out', type=Path, help='folder of the results (default: benchmarks/evidence/results, or '
                        '--work with --quick)')
    parser.add_argument('--finished', action='store_true', help='start nothing: write what is there')
    parser.add_argument('--page', action='store_true', help='write docs/en/evidence.md, and its figures')
    parser.add_argument('--step', type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.step:
        carry_out(args.step, args.threads)
        return
    unknown = [name for name in args.names if name not in CLAIMS]
    if unknown:
        raise UserError(f'There is no claim {unknown[0]!r}: choose of {", ".join(CLAIMS)}.')
    out = args.out or (args.work if args.quick else RESULTS)
    for name in args.names:
        lab = Lab(args.work / ('quick' if args.quick else 'steps'), data_folder(), args.jobs, args.threads, args.quick,
                  not args.finished)
        try:
            measure(CLAIMS[name], lab, out)
            show(out, [name])
        finally:
            lab.stop()
    if args.list:
        show(out, list(CLAIMS))
    if args.page:
        write_page(list(CLAIMS.values()), args.out or RESULTS, ROOT / 'docs/en')


def show(folder: Path, names: Sequence[str]) -> None:
    """What there is of these claims, and what came out."""
    table = Table('claim', 'what it says', 'effect here', 'verdict')
    for claim in (CLAIMS[name] for name in names):
        found = load_result(folder, claim.name)
        table.add_row(claim.name, claim.title, found['effect'] if found else '',
                      found['verdict'] if found else 'not measured')
    Console().print(table)
    shown = names[0] if len(names) == 1 else 'NAME'
    Console().print(f'All rows: {folder}/{shown}.json', soft_wrap=True, highlight=False)


if __name__ == '__main__':
    run_command(main, 'Interrupted: the same command goes on where it was.')
