"""Tasks handed out to Ray actors, one each at a time. Where actors run, and when they come back, is Ray's business."""
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from mmtinyvit.errors import UserError, user_sentence

__all__ = ['Failed', 'hand_out']

TRIES = 3  # of a task that fails for its own sake
LOSSES = 10  # of a task whose actors are lost, and of actors that are lost before one of them is ready
HOPELESS = 20  # tasks that fail for the first time, with no success between them

_ALIVE, _START = object(), object()  # what an actor is asked for before it gets tasks

Task = TypeVar('Task')


class Failed(NamedTuple):
    """A task that was given up, and why."""
    task: Any
    reason: str


def hand_out(actors: Sequence[Any], tasks: Iterable[Task], call: Callable[[Any, Task], Any],
             done: Callable[[Task, Any], Iterable[Task]], log: Callable[[str], None]) -> list[Failed]:
    """Gives each actor that is ready a task, until all tasks are done or given up.

    An actor takes part as soon as Ray has found room for it, and again when Ray has restarted it. The task of an actor
    that is lost goes to another one. A task that fails goes to the end of the line, three times in all.

    Args:
        actors: Handles of actors, with ``max_restarts=-1``. Their method ``alive()`` does nothing, and ``start()`` is
            called before any task and after each restart.
        tasks: What can be done at once.
        call: Starts a task on an actor; returns Ray's reference to the result.
        done: Called with each task and its result; returns the tasks that have become possible.
        log: Called with a sentence about each failure and loss.

    Raises:
        UserError: An actor cannot start, actors are lost before any is ready, or nothing but failures comes back.
    """
    import ray
    line, idle, failed = deque(tasks), deque(), []
    failures, losses, lost_at_start, in_a_row = Counter(), Counter(), 0, 0
    running = {}

    def await_actor(actor: Any) -> None:
        """Waits until Ray has started it; an actor that is being restarted refuses what may not be tried again."""
        running[actor.alive.options(max_task_retries=-1).remote()] = actor, _ALIVE

    for actor in actors:
        await_actor(actor)

    def give_up(task: Task, reason: str) -> None:
        log(f'Given up: {task}: {reason}')
        failed.append(Failed(task, reason))

    while line or any(task not in (_ALIVE, _START) for _, task in running.values()):
        finished, _ = ray.wait(list(running), num_returns=1)
        # all that are finished by now: one wait looks through all references
        finished += ray.wait([ref for ref in running if ref not in finished], num_returns=max(len(running) - 1, 1),
                             timeout=0)[0] if len(running) > 1 else []
        for reference in finished:
            actor, task = running.pop(reference)
            try:
                result = ray.get(reference)
            except ray.exceptions.RayActorError as error:
                log(f'An actor was lost ({_first_line(error)}); Ray starts it again.')
                await_actor(actor)
                if task in (_ALIVE, _START):
                    lost_at_start += 1
                    if lost_at_start > LOSSES:
                        raise UserError(f'{lost_at_start} actors died before they were ready ({_first_line(error)}): '
                                        'look at their logs, and at the memory of the machines.') from error
                else:
                    losses[task] += 1
                    if losses[task] < LOSSES:
                        line.appendleft(task)
                    else:
                        give_up(task, f'{LOSSES} actors were lost at it, the last one with {_first_line(error)}')
                continue
            except ray.exceptions.RayTaskError as error:
                reason = user_sentence(error.cause) if isinstance(error.cause, UserError) else str(error)
                if task is _START:
                    raise UserError(f'An actor cannot start: {reason}') from error
                failures[task] += 1
                in_a_row += failures[task] == 1  # towards the end those alone are left that have failed before
                if in_a_row >= HOPELESS:
                    raise UserError(f'{HOPELESS} units failed in a row, the last one with: {reason}') from error
                if failures[task] < TRIES:
                    log(f'Failed, and will be tried again: {task}: {reason}')
                    line.append(task)
                else:
                    give_up(task, reason)
            else:
                if task is _ALIVE:
                    running[actor.start.remote()] = actor, _START
                    continue
                lost_at_start = 0
                if task is not _START:
                    in_a_row = 0
                    line.extend(done(task, result))
            idle.append(actor)
        while line and idle:
            actor, task = idle.popleft(), line.popleft()
            running[call(actor, task)] = actor, task
    return failed


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
