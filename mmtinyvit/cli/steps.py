"""Commands that a longer command runs one after the other, each in a process of its own."""
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from mmtinyvit.errors import UserError

__all__ = ['run_step']


def run_step(console: Console, what: str, shown: str, command: Sequence[str], log: Path, environ: Mapping[str, str],
             pass_fds: Sequence[int] = ()) -> float:
    """Run a command, its output into a file; on a terminal one line shows how far it is.

    Args:
        console: Where to say what is done.
        what: The step, in words.
        shown: The command, as a person would type it.
        command: The command.
        log: The file.
        environ: Its environment.
        pass_fds: Open files that it inherits.

    Returns:
        Seconds.

    Raises:
        UserError: The command failed; ends with its last line.
    """
    console.print(f'[bold]{what}[/bold]', highlight=False)
    console.print(f'  {shown}', highlight=False, soft_wrap=True, markup=False)
    start, last = time.perf_counter(), ''
    with open(log, 'w', buffering=1) as file, console.status('') as status, subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='backslashreplace',
            pass_fds=pass_fds, env={**environ, 'PYTHONWARNINGS': 'ignore'}) as process:
        try:
            for line in process.stdout:
                file.write(line)
                last = line.strip() or last
                if 'Epoch(' in line or 'saved ' in line:
                    status.update(line.split(' - ')[-1].strip()[:console.width - 4])
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise UserError(f'"{what}" failed: {last.removeprefix("Error: ")} (the whole output is in {log})')
    seconds = time.perf_counter() - start
    console.print(f'  {seconds:.0f} s', highlight=False)
    return seconds
