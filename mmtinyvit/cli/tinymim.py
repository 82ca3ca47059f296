"""TinyMIM's sequential distillation: MAE ViT-L teaches B, B teaches S, S teaches T.

    mmtinyvit tinymim checkpoints/mae_pretrain_vit_large.pth --gpus 8 --amp

Each training has its own folder under --out and begins with the student of the one before; with --finetune each student
is finetuned on ImageNet-1K as well. Interrupted, the same command goes on: finished trainings are not repeated, and an
unfinished one resumes from its last checkpoint.
"""
import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mmtinyvit.errors import UserError
from mmtinyvit.paths import mim_root

from .tables import print_tables, row_table

__all__ = ['ON_INTERRUPT', 'build_parser', 'main']

ON_INTERRUPT = 'Interrupted: run the same command to go on with the unfinished training.'

CONFIGS = [f'configs/tinymim/{name}.py' for name in ('mae_large_to_base', 'tinymim_base_to_small',
                                                     'tinymim_small_to_tiny')]
FINETUNING = [f'configs/tinymim/finetune_{name}_in1k.py' for name in ('base', 'small', 'tiny')]


def build_parser() -> argparse.ArgumentParser:
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
    return parser


@dataclass(frozen=True)
class Step:
    """One training of a chain.

    Args:
        config: The config file.
        work_dir: Its own folder.
        source: The weights it begins with: the teacher's, or, to finetune, the student's.
        finetunes: Whether ``source`` is the student.
        options: Further settings, ``KEY=VALUE``, for all steps.
    """
    config: str
    work_dir: Path
    source: Path
    finetunes: bool = False
    options: Sequence[str] = ()

    @property
    def weights(self) -> Path:
        """The finished student: a plain state dict of its backbone, or of the finetuned classifier."""
        return self.work_dir / 'last.pth'

    def command(self, gpus: int = 1, amp: bool = False) -> list[str]:
        """The training, from its last checkpoint if there is one."""
        root, started = mim_root(), (self.work_dir / 'last_checkpoint').is_file()
        tool = [str(root / 'tools/dist_train.sh')] if gpus > 1 else [sys.executable, str(root / 'tools/train.py')]
        source = 'load_from' if self.finetunes else 'model.teacher.checkpoint'
        options = [*([] if started and self.finetunes else [f'{source}={self.source}']), *self.options]
        return [*tool, self.config, *([str(gpus)] if gpus > 1 else []), '--work-dir', str(self.work_dir),
                *(['--resume'] if started else []), *(['--amp'] if amp else []),
                *(['--cfg-options', *options] if options else [])]


def check_steps(steps: Sequence[Step]) -> None:
    """Check, before the first training, that no later one will fail for its config.

    Raises:
        UserError: A step is no TinyMIM recipe; its networks' heads do not fit each other; or its teacher does not
            have the tensors of the student before it.
    """
    import torch  # here and below, what takes seconds to import: not for --help
    from mmengine.registry import MODELS, init_default_scope

    from mmtinyvit.config import read_config
    from mmtinyvit.models.selfsup import TinyMIM

    students: dict[Path, dict[str, torch.Size]] = {}
    for step in steps:
        cfg = read_config(step.config)
        init_default_scope(cfg.get('default_scope', 'mmpretrain'))
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
            backbone = model.backbone
            if not step.finetunes:
                if not isinstance(model, TinyMIM):
                    raise UserError(f'{step.config} is no recipe of TinyMIM: its model is {cfg.model.type}.')
                teacher = MODELS.build(cfg.model.teacher.backbone)
                check_heads(step, model, teacher)
        needed = shapes(backbone if step.finetunes else teacher)
        given = students.get(step.source, needed)
        wrong = [key for key in needed if key in given and needed[key] != given[key] or key not in given
                 and not key.startswith(('ln1', 'ln2', 'norm'))]
        if wrong:
            raise UserError(f'{step.config} begins with {step.source}, whose network is another one ({wrong[0]} is '
                            f'{tuple(given.get(wrong[0], ())) or "missing"} there and {tuple(needed[wrong[0]])} here): '
                            'correct arch and order of the steps.')
        students[step.weights] = shapes(backbone)


def check_heads(step: Step, model: Any, teacher: Any) -> None:
    teacher_heads = teacher.layers[max(model.teacher.block, 0) - 1].attn.num_heads
    if model.stages:
        widths = sorted({model.backbone.embed_dims[stage - 1] for stage in model.stages})
        fits, student_has = all(width % teacher_heads == 0 for width in widths), f'stages of {widths} channels'
    else:
        heads = model.backbone.layers[model.block - 1].attn.num_heads
        compared = any(hasattr(loss, 'relations') for loss in model.losses)
        fits, student_has = heads == teacher_heads or not compared, f'{heads} heads'
    if not fits:
        raise UserError(f'In {step.config} the student has {student_has} and the target block of the teacher '
                        f'{teacher_heads} heads, which do not fit each other: correct num_heads in layer_cfgs.')


def shapes(backbone: Any) -> dict[str, tuple[int, ...]]:
    return {key: value.shape for key, value in backbone.state_dict().items()}


def run_step(step: Step, gpus: int = 1, amp: bool = False) -> dict:
    """Run a training to its end, unless it has been already, and keep its student's weights.

    Returns:
        dict: What ``last.json`` beside the weights holds: ``source``, its ``sha256``, the ``options``, and the
        ``seconds`` of this run; and ``done``, whether there was nothing to do.

    Raises:
        UserError: The source is missing, the training fails, or what is there came from another source.
    """
    if not step.source.is_file():
        raise UserError(f'{step.config} begins with {step.source}, which does not exist: check the path.')
    with open(step.source, 'rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    record = dict(config=step.config, source=str(step.source), sha256=digest, options=list(step.options))
    record_file = step.work_dir / 'last.json'
    before = json.loads(record_file.read_text()) if record_file.is_file() else record
    different = [name for name in ('config', 'sha256', 'options') if before.get(name) != record[name]]
    if different:
        raise UserError(f'{step.work_dir} holds a training of {before["config"]} from {before["source"]} with the '
                        f'options {before["options"]}, which differs in {", ".join(different)}: choose another --out, '
                        'or remove the folder.')
    if step.weights.is_file() and 'seconds' in before:
        return before | dict(done=True)
    write_json(record_file, record)
    start = time.perf_counter()
    status = subprocess.run(step.command(gpus, amp)).returncode
    if status:
        raise UserError(f'The step {step.config} ended with status {status}, and its output above says why: the same '
                        'command goes on from its last checkpoint.')
    keep_weights(step)
    record['seconds'] = before.get('seconds', 0) + round(time.perf_counter() - start, 1)
    write_json(record_file, record)
    return record | dict(done=False)


def keep_weights(step: Step) -> None:
    """Write the plain state dict of a finished step's student beside its checkpoints."""
    from mmtinyvit.apis.publish import pack_weights, write_file
    from mmtinyvit.models.checkpoints import read_state_dict

    tensors = read_state_dict((step.work_dir / 'last_checkpoint').read_text().strip())
    if not step.finetunes:
        tensors = {key: value for key, value in tensors.items() if key.startswith('backbone.')}
    write_file(step.weights, pack_weights(tensors, '.pth'))


def write_json(path: Path, content: dict) -> None:
    from mmtinyvit.apis.publish import write_file

    write_file(path, json.dumps(content, indent=2).encode() + b'\n')


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


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    steps = plan(args)
    check_steps(steps)
    console = Console()
    table = row_table('training', 'began with', 'seconds', 'weights', words=('training', 'began with', 'weights'))
    for step in steps:
        console.print(f'[bold]{step.config}[/bold] from {step.source}', highlight=False, soft_wrap=True)
        record = run_step(step, args.gpus, args.amp)
        seconds = f'{record["seconds"]:.0f}{" (before)" if record["done"] else ""}'
        table.add_row(Path(step.config).stem, str(step.source), seconds, str(step.weights))
    print_tables(table)
