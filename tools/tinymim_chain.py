"""TinyMIM's sequential distillation: MAE ViT-L teaches B, B teaches S, S teaches T.

    python tools/tinymim_chain.py checkpoints/mae_pretrain_vit_large.pth --gpus 8 --amp

Each training has its own folder under --out and begins with the student of the one before; with --finetune each student
is finetuned on ImageNet-1K as well. Interrupted, the same command goes on: finished trainings are not repeated, and an
unfinished one resumes from its last checkpoint.
"""
import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmtinyvit.apis.chain import Step, check_steps, run_step
from mmtinyvit.cli.command import run_command
from mmtinyvit.errors import UserError

CONFIGS = [f'configs/tinymim/{name}.py' for name in ('mae_large_to_base', 'tinymim_base_to_small',
                                                     'tinymim_small_to_tiny')]
FINETUNING = [f'configs/tinymim/finetune_{name}_in1k.py' for name in ('base', 'small', 'tiny')]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Run the trainings of TinyMIM one after the other.')
    parser.add_argument('teacher', type=Path, help="the first teacher's checkpoint")
    parser.add_argument('--configs', nargs='+', default=CONFIGS, metavar='CONFIG',
                        help='the trainings in order (default: MAE-L to B, B to S, S to T)')
    parser.add_argument('--finetune', nargs='*', metavar='CONFIG',
                        help='finetune each student too; one config for each training (default: B, S and T)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/tinymim_chain'),
                        help='folder of the trainings (default: work_dirs/tinymim_chain)')
    parser.add_argument('--gpus', type=int, default=1, help='processes on this machine, one per GPU (default: 1)')
    parser.add_argument('--amp', action='store_true', help='train with automatic mixed precision (needs a GPU)')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='override settings in the configs of all steps')
    return parser.parse_args()


def plan(args: argparse.Namespace) -> list[Step]:
    """The trainings in order, each student finetuned as soon as it is there."""
    finetuning = args.finetune if args.finetune is None or args.finetune else FINETUNING
    if finetuning and len(finetuning) != len(args.configs):
        raise UserError(f'{len(args.configs)} trainings and {len(finetuning)} configs to finetune with: --finetune '
                        'takes one for each training.')
    steps, source = [], args.teacher
    for number, config in enumerate(args.configs):
        steps.append(Step(config, args.out / Path(config).stem, source, options=args.cfg_options))
        source = steps[-1].weights
        if finetuning:
            config = finetuning[number]
            steps.append(Step(config, args.out / Path(config).stem, source, finetunes=True, options=args.cfg_options))
    if len({step.work_dir for step in steps}) != len(steps):
        raise UserError('Two of the configs have the same file name, which names their folders: rename one.')
    return steps


def main() -> None:
    args = parse_args()
    steps = plan(args)
    check_steps(steps)
    console, table = Console(), Table('training', 'began with', 'seconds', 'weights', title='TinyMIM')
    for step in steps:
        console.print(f'[bold]{step.config}[/bold] from {step.source}', highlight=False, soft_wrap=True)
        record = run_step(step, args.gpus, args.amp)
        seconds = f'{record["seconds"]:.0f}{" (before)" if record["done"] else ""}'
        table.add_row(Path(step.config).stem, str(step.source), seconds, str(step.weights))
    console.print(table)


if __name__ == '__main__':
    run_command(main, 'Interrupted: run the same command to go on with the unfinished training.')
