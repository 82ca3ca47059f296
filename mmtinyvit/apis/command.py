"""How every tool ends: well, with one clear sentence, or with the traceback of a bug."""
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from mmtinyvit.errors import UserError, user_sentence

__all__ = ['run_command']

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def run_command(main: Callable[[], int | None], on_interrupt: str = 'Interrupted.') -> None:
    """Run ``main`` and exit the process.

    Args:
        main: The tool; returns an exit status, None for 0.
        on_interrupt: What to say after Ctrl-C: what is kept, and how to go on.
    """
    try:
        status = main() or 0
        if not status:
            _leave_together()
    except UserError as error:
        sys.stdout.flush()
        print(f'Error: {user_sentence(error)}', file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        sys.stdout.flush()
        print(on_interrupt, file=sys.stderr)
        status = INTERRUPTED
    if status and os.environ.get('WORLD_SIZE', '1') != '1':
        sys.stderr.flush()
        os._exit(status)  # do not wait for the collectives of processes that go on
    sys.exit(status)


def _leave_together() -> None:
    """Of several processes, those that are done wait for the one that still saves, and then all take down their group.

    A process that ends with the group in place may abort, and the launcher would end the others with it.
    """
    if 'torch' not in sys.modules:
        return
    from torch import distributed
    if distributed.is_available() and distributed.is_initialized():
        with suppress(RuntimeError):  # one is gone, and holds up nobody: what was to be done here is done
            distributed.barrier()
        distributed.destroy_process_group()
