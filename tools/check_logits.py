"""Check a store: every checksum, without the teacher; and a sample of its records, with it.

    python tools/check_logits.py data/in21k_logits
    python tools/check_logits.py data/in21k_logits --teacher configs/teachers/clip_vit_l14_in21k.py --checkpoint T.pth
"""
import argparse

from rich.console import Console
from rich.progress import track
from rich.table import Table

from mmtinyvit.apis.command import run_command
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore
from mmtinyvit.store.remote_folder import is_url


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Check a store of teacher logits.')
    parser.add_argument('store', help='folder or URL of the store')
    parser.add_argument('--teacher', metavar='CONFIG', dest='config', help='the config that saved it: re-run records')
    parser.add_argument('--checkpoint', help="the teacher's checkpoint")
    parser.add_argument('--records', type=int, default=64, help='how many records to re-run (default: 64)')
    parser.add_argument('--tolerance', type=float, default=1e-3,
                        help='mean KL divergence in nats beyond which the check fails (default: 0.001)')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='override the config')
    return parser.parse_args()


def check_files(store: LogitStore) -> list[str]:
    """Every problem that the checksums show."""
    findings = store.verify()
    first = next(findings)
    problems = [first.problem] if first.problem else []
    console = Console(stderr=True)
    for finding in track(findings, 'checking', first.total - 1, console=console, disable=not console.is_terminal):
        if finding.problem:
            problems.append(finding.problem)
    return problems


def rerun(args: argparse.Namespace) -> dict[str, float]:
    """Ask the teacher again about some records."""
    # imported here, because the check of the files needs neither torch nor MMEngine
    from mmtinyvit.apis.config import add_common_flags, check_data, load_config, use_checkpoint
    from mmtinyvit.apis.runner import build_teacher, saving_loop

    parser = argparse.ArgumentParser()
    add_common_flags(parser)
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    cfg = load_config(parser.parse_args([args.config, *options]))
    use_checkpoint(cfg, args.checkpoint)
    check_data(cfg, 'test_dataloader')
    saving_loop(cfg, args.config).update(type='mmtinyvit.CheckLogitsLoop', store=args.store, num_records=args.records)
    return build_teacher(cfg).test()


def main() -> None:
    args = parse_args()
    store = LogitStore(args.store)
    problems = check_files(store)
    coverage = store.coverage()
    complete = sum(there.present == there.expected for there in coverage.values())
    table = Table('store', 'samples', 'views', 'complete', 'K of C', 'codec', 'bytes per view', 'damaged files')
    table.add_row(args.store, f'{store.num_samples:,}', str(len(coverage)), str(complete),
                  f'{store.topk} of {store.num_classes:,}', store.codec, f'{store.bytes_per_view:g}',
                  str(len(problems)))
    Console().print(table)
    for problem in problems:
        print(problem)
    if problems:
        repair = '' if is_url(args.store) else (f'remove them with `python tools/logit_store.py repair {args.store} '
                                                '--yes` and save again, or ')
        raise UserError(f'{args.store} has {len(problems)} damaged files: {repair}copy the files again.')
    if args.config:
        result = rerun(args)
        table = Table('records re-run', 'mean KL (nats)', 'max KL', 'first class changed')
        table.add_row(str(result['records']), f"{result['mean_kl']:.2e}", f"{result['max_kl']:.2e}",
                      str(result['top1_changed']))
        Console().print(table)
        if result['mean_kl'] > args.tolerance:
            raise UserError(f"The teacher differs from {args.store} by {result['mean_kl']:.2e} nats on average, more "
                            f'than {args.tolerance:g}: the store or the teacher is another one than was saved.')


if __name__ == '__main__':
    run_command(main)
