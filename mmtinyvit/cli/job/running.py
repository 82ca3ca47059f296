"""The steps of a job, each a command that may be typed too; what is finished is not done again."""
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from mmtinyvit.errors import UserError
from mmtinyvit.store.files import write_atomically

from ..steps import run_step
from .plan import Layout, Plan
from .settings import Settings

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ['Step', 'can_export', 'from_here', 'job_lock', 'list_steps', 'run_steps', 'summarise']

EXPORT = ('onnx', 'onnxruntime', 'onnxscript')
SEVERAL = ('save', 'train')  # commands that may use several GPUs


class Step(NamedTuple):
    """A command.

    Attributes:
        name: Short, and of its log file.
        what: In words.
        words: The command behind ``mmtinyvit``.
    """
    name: str
    what: str
    words: list[str]


def from_here(path: str | Path) -> str:
    """A path as one would type it here."""
    here = f'{Path.cwd()}{os.sep}'
    return str(path).removeprefix(here)


def can_export() -> bool:
    """Whether the libraries that ONNX files need are installed."""
    return all(find_spec(name) for name in EXPORT)


def list_steps(where: Layout, settings: Settings, plan: Plan) -> Iterator[Step]:
    """The steps in order; each when those before it are done, since it names what they left."""
    amp = ['--amp'] if settings.amp else []
    several = ['--auto-scale-lr'] if settings.gpus > 1 else []

    def last(name: str) -> str:
        pointer = where.work(name) / 'last_checkpoint'
        return pointer.read_text().strip() if pointer.is_file() else str(where.work(name) / 'last_checkpoint')

    def train(config: Path, name: str) -> list[str]:
        started = (where.work(name) / 'last_checkpoint').is_file()  # --resume alone would not begin with load_from
        return ['train', str(config), '--work-dir', str(where.work(name)), *['--resume'] * started, *amp, *several]

    def test(config: Path, name: str) -> list[str]:
        return ['test', str(config), last(name), '--work-dir', str(where.work(name) / 'test'), '--out',
                str(where.out / f'{name}.json')]

    def publish(config: Path, name: str) -> list[str]:
        return ['publish', str(config), last(name), str(where.out / f'{name}.safetensors')]

    config, name = where.student, 'student'
    yield Step('save', "save the teacher's logits",
               ['save', str(where.teacher), '--out', str(where.store), '--work-dir', str(where.work('save')), *amp])
    yield Step('train', 'distil the student', train(config, name))
    if plan.val:
        yield Step('test', 'test the student', test(config, name))
    yield Step('publish', 'write the student as one file', publish(config, name))
    if plan.finetune_train:
        config, name = where.finetuned, 'finetuned'
        yield Step('finetune', 'finetune the student with labels', train(config, name))
        yield Step('test_finetuned', 'test the finetuned student', test(config, name))
        yield Step('publish_finetuned', 'write the finetuned student as one file', publish(config, name))
    labelled = plan.val or not plan.train.classes  # other labels are no classes of the teacher
    yield Step('report', 'write the report page', [
        'store', 'report', str(where.store), *(['--config', str(where.student)] if labelled else []), '--out',
        str(where.out / 'report.html')])
    if can_export():
        yield Step('export', 'write ONNX, compared with PyTorch', [
            'export', str(config), str(where.out / f'{name}.onnx'), '--checkpoint', last(name)])


def run_steps(console: Console, where: Layout, settings: Settings, steps: Iterable[Step],
              lock: int) -> dict[str, float]:
    """Run what is not done yet.

    Args:
        console: Where to say what is done.
        where: The folders.
        settings: Of the job.
        steps: In order.
        lock: See :func:`job_lock`.

    Returns:
        Seconds of each step.

    Raises:
        UserError: A step failed.
    """
    noted, logs = where.out / 'steps.json', where.out / 'logs'
    logs.mkdir(exist_ok=True)
    seconds: dict[str, float] = json.loads(noted.read_text()) if noted.is_file() else {}
    for step in steps:
        if step.name in seconds:
            console.print(f'[bold]{step.what}[/bold]: done before, {seconds[step.name]:.0f} s', highlight=False)
            continue
        launch, words = ['-m', 'mmtinyvit'], step.words
        if settings.gpus > 1 and words[0] in SEVERAL:
            launch = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={settings.gpus}', *launch]
            words = [*words, '--launcher', 'pytorch']
        seconds[step.name] = run_step(
            console, step.what, f'mmtinyvit {shlex.join(map(from_here, words))}',
            [sys.executable, '-u', *launch, *words], logs / f'{step.name}.log', os.environ, [lock])
        write_atomically(noted, [json.dumps(seconds, indent=2).encode()])
    return seconds


@contextmanager
def job_lock(out: Path) -> Iterator[int]:
    """Hold the folder of a job; yields an open file, which the steps inherit: they hold it too if this process dies.

    Raises:
        UserError: Another process holds it, the folder cannot be written to, or this system has no such locks.
    """
    if fcntl is None:
        raise UserError('A job saves a store, which this operating system lacks the locks for: run it on Linux or '
                        'macOS.')
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = os.open(out / '.job.lock', os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise UserError(f'out={out} cannot be written to ({error.strerror}): choose another.') from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(f'Another process works on {out}: wait until it is done, or end it; or choose another '
                        'out.') from None
    try:
        yield file
    finally:
        os.close(file)


def summarise(where: Layout, plan: Plan, seconds: dict[str, float]) -> dict[str, Any]:
    """What there is at the end, also in ``summary.json``."""
    def top1(name: str) -> float | None:
        path = where.out / f'{name}.json'
        return round(json.loads(path.read_text())['accuracy/top1'], 2) if path.is_file() else None

    def newest(pattern: str) -> str | None:
        found = sorted(where.out.glob(pattern), key=lambda path: path.stat().st_mtime)
        return str(found[-1]) if found else None

    summary = dict(
        out=str(where.out), images=plan.train.count, views=plan.views, topk=plan.topk, classes=plan.num_classes,
        top1=top1('student'), finetuned_top1=top1('finetuned'), student=newest('student-*.safetensors'),
        finetuned=newest('finetuned-*.safetensors'), onnx=newest('*.onnx'), report=newest('report.html'),
        configs=str(where.configs), store=str(where.store),
        seconds={name: round(value, 1) for name, value in seconds.items()})
    write_atomically(where.out / 'summary.json', [json.dumps(summary, indent=2).encode()])
    return summary
