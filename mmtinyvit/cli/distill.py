"""The whole job in one line: a teacher, images without labels, and a student at the end.

    mmtinyvit distill data=photos/ teacher=timm/convnext_tiny student=tinyvit-5m epochs=50 out=out/

Finds the images, asks the teacher about a few of them to plan the store, saves it, trains the student, tests it where
the images have labels, and writes it as one file and as ONNX. The configs that it uses are in OUT/configs. Interrupted
anywhere, the same line goes on.
"""
import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mmtinyvit.errors import UserError

from .job.settings import SETTINGS, parse_words, read_settings
from .tables import fact_table, print_tables, size, spell_time

__all__ = ['ON_INTERRUPT', 'build_parser', 'distill', 'main']

ON_INTERRUPT = 'Interrupted: the same line goes on from here.'


def build_parser() -> argparse.ArgumentParser:
    width = max(map(len, SETTINGS))
    lines = ['settings (the first three are needed):']
    for name, each in SETTINGS.items():
        default = f' (default: {each.default})' if isinstance(each.default, str | int | float) else ''
        lines += wrap(f'{name:{width}}  {each.metadata["what"]}{default}', 79, initial_indent='  ',
                      subsequent_indent=' ' * (width + 4), drop_whitespace=True)
    parser = argparse.ArgumentParser(
        description='Distil a student from a teacher on your images, from photos to ONNX.',
        epilog='\n'.join(lines), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('settings', nargs='*', metavar='KEY=VALUE', help='see below')
    parser.add_argument('--yes', action='store_true', help='do what was planned without asking')
    parser.add_argument('--plan', action='store_true', help='plan, write the configs, and stop')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_intermixed_args(argv)
    run(parse_words(args.settings), ask=not args.yes, only_plan=args.plan)


def distill(data: str | Path, teacher: str, out: str | Path, student: str = 'tinyvit-5m',
            **settings: Any) -> dict[str, Any]:
    """Distil a student from a teacher, from images to a published file; interrupted, the same call goes on.

    Args:
        data: Images: folder, archive or URL.
        teacher: ``timm/NAME``, ``CONFIG.py:WEIGHTS``, or a published name or file.
        out: Folder for all that is written.
        student: ``tinyvit-5m``, ``-11m``, ``-21m``, ``timm/NAME``, or ``CONFIG.py``.
        **settings: Any other that ``mmtinyvit distill --help`` lists, such as ``epochs=50``.

    Returns:
        What ``summary.json`` in ``out`` holds: ``top1`` in percent, None where nothing was tested, and the files
        ``student``, ``finetuned`` and ``onnx``, None where there is none.

    Raises:
        UserError: A setting is wrong, the teacher cannot be loaded, or a step fails.
    """
    return run(dict(data=data, teacher=teacher, out=out, student=student, **settings), ask=False)


def run(given: Mapping[str, Any], ask: bool, only_plan: bool = False) -> dict[str, Any]:
    """Plan the job, unless that is done, and do what is left of it."""
    settings = read_settings(given)
    from mmtinyvit.store.folders import refuse_url

    from .job.images import refuse_inside
    from .job.plan import Layout
    from .job.planning import read_plan
    from .job.running import job_lock, list_steps, run_steps, summarise

    refuse_url(settings.out)
    where = Layout(Path(settings.out))
    refuse_inside(where.out, data=settings.data, val=settings.val, finetune=settings.finetune)
    console = Console()
    with job_lock(where.out) as lock:
        plan = read_plan(where.out / 'plan.json', settings)
        if plan is None:
            plan = prepare(where, settings, ask and not only_plan)
        elif only_plan:
            print_tables(plan_table(where, settings, plan))
        if only_plan:
            console.print('The same line without --plan goes on from here.', highlight=False)
            return {}
        seconds = run_steps(console, where, settings, list_steps(where, settings, plan), lock)
        summary = summarise(where, plan, seconds)
    print_tables(summary_table(summary))
    return summary


def prepare(where: Any, settings: Any, ask: bool) -> Any:
    """Find teacher, student and images, plan, ask, and write the plan, which is returned; its configs are written."""
    from .job.images import find_images, list_images, split_images
    from .job.networks import find_student, find_teacher
    from .job.planning import check_devices, load_teacher, make_plan, write_plan

    student, teacher = find_student(settings.student), find_teacher(settings.teacher, settings.weights)
    check_devices(settings)
    root, val_root = find_images(settings.data, 'data', settings.layout, settings.match)
    val_root = find_images(settings.val, 'val')[0] if settings.val else val_root
    fine_root, fine_val_root = find_images(settings.finetune, 'finetune') if settings.finetune else (None, None)
    model = load_teacher(where, settings, teacher, student)
    indexes = where.out / 'images'
    console = Console(stderr=True)
    with Progress(TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), console=console, transient=True,
                  disable=not console.is_terminal) as progress:
        def listed(data: str, name: str, classes: tuple[str, ...] | None = None, **options: str | None) -> Any:
            tasks = {}

            def show(step: str, done: int, total: int, images: int) -> None:
                if step not in tasks:
                    tasks[step] = progress.add_task(f'{step} {name}', total=total)
                progress.update(tasks[step], completed=done, total=total)

            return list_images(data, indexes / f'{name}.index', show, classes, **options)

        train = listed(root, 'data', layout=settings.layout, match=settings.match, labels=settings.labels)
        val = listed(val_root, 'val') if val_root else None
        finetune = None
        if fine_root:
            labelled = listed(fine_root, 'finetune')
            if not labelled.classes:
                raise UserError(f'The images of finetune={settings.finetune} have no labels: put them into a folder '
                                'per class.')
            if len(labelled.classes) < 2:
                raise UserError(f'The images of finetune={settings.finetune} are all of one class, '
                                f'{labelled.classes[0]}: add a folder of another.')
            finetune = (labelled, listed(fine_val_root, 'finetune_val', labelled.classes)) if fine_val_root else (
                split_images(labelled, indexes))
    if train.count < 2:
        raise UserError(f'data={settings.data} has one image: name more, thousands if you can.')
    plan = make_plan(where, settings, teacher, student, model, train, val, finetune)
    print_tables(plan_table(where, settings, plan))
    if ask:
        confirm()
    write_plan(where.out / 'plan.json', settings, plan)
    return plan


def confirm() -> None:
    """Ask whether to go on. Raises :class:`UserError` if the answer is no, or nobody can be asked."""
    if not sys.stdin.isatty():
        raise UserError('Nobody is here to say yes to this plan: add --yes.')
    try:
        answer = input('Go on? [Y/n] ').strip().lower()
    except EOFError:
        answer = 'no'
    if answer not in ('', 'y', 'yes'):
        raise UserError('Nothing was done: change a setting of the line, for example views=10; or add --plan, change '
                        'the configs that it writes, and run the line without it.')


def plan_table(where: Any, settings: Any, plan: Any) -> Any:
    """What will be done, and what it costs."""
    from mmtinyvit.apis.store_plan import free_bytes

    from .job.running import can_export, from_here

    return fact_table({
        'images': f'{plan.train.count:,}' + f', without {plan.train.rejected:,} that do not decode'
                  * bool(plan.train.rejected),
        'teacher': settings.teacher,
        'student': settings.student,
        'views': f'{plan.views} of {plan.size} x {plan.size} pixels, for {settings.epochs} epochs',
        'kept of the teacher': f'top {plan.topk} of {plan.num_classes:,} classes; mean KL {plan.mean_kl:.2g} nats',
        'store': f'{size(plan.store_bytes)}, of {size(free_bytes(where.out))} that are free',
        'time': f'about {spell_time(3600 * plan.hours)} to save it and {spell_time(3600 * plan.training_hours)} to '
                'train, on one such device',
        'test': f'{plan.val.count:,} images; {plan.note}' if plan.val else plan.note,
        'finetuning': f'{plan.finetune_train.count:,} images of {len(plan.finetune_train.classes):,} classes, '
                      f'{settings.finetune_epochs} epochs' if plan.finetune_train else None,
        'ONNX': None if can_export() else 'none: pip install "mmtinyvit[export]" for it',
        'configs': from_here(where.configs)})


def summary_table(summary: Mapping[str, Any]) -> Any:
    """What there is at the end."""
    from .job.running import from_here

    return fact_table({
        'top-1 of the student': None if summary['top1'] is None else f'{summary["top1"]:.1f} %',
        'top-1 after finetuning': None if summary['finetuned_top1'] is None else f'{summary["finetuned_top1"]:.1f} %',
        **{name: from_here(summary[name.lower()])
           for name in ('student', 'finetuned', 'ONNX', 'report', 'store', 'configs') if summary[name.lower()]},
        'time': spell_time(sum(summary['seconds'].values()))})
