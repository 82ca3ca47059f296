"""How many views of each image to save."""
import os
import shutil
from pathlib import Path
from typing import Any

from mmtinyvit.errors import UserError
from mmtinyvit.store.remote_folder import is_url

__all__ = ['check_limits', 'free_bytes', 'recommend_views']


def recommend_views(views: int, total_bytes: int, hours: float, max_bytes: int, max_hours: float | None = None
                    ) -> dict[str, Any]:
    """As many views as there is room and time for, at most those that are wanted.

    Views are read in turn, and with fewer views than epochs each is read more often. How few suffice is not known
    before a training; ``docs/en/store_tools.md`` has what was published.

    Args:
        views: The views that are wanted: one per epoch, at most.
        total_bytes: What they take together.
        hours: How long the teacher needs for them.
        max_bytes: The room that there is.
        max_hours: The time that there is; None for any.

    Returns:
        ``views`` (0 if there is no room or time for one), ``bytes``, ``hours`` and ``limit``: ``'wanted'``, ``'room'``
        or ``'time'``, whichever is the closest.

    Raises:
        UserError: A limit is not positive.
    """
    check_limits(max_bytes, max_hours)
    limits = {'wanted': views, 'room': int(max_bytes * views // max(total_bytes, 1))}
    if max_hours is not None:
        limits['time'] = int(max_hours * views / max(hours, 1e-12))
    limit = min(limits, key=limits.get)
    count = limits[limit]
    return dict(views=count, bytes=total_bytes * count // views, hours=hours * count / views, limit=limit)


def check_limits(max_bytes: int, max_hours: float | None) -> None:
    """Refuses limits that are not positive.

    Raises:
        UserError: One is not.
    """
    if max_bytes <= 0 or (max_hours is not None and not max_hours > 0):
        raise UserError('--disk and --hours must be positive.')


def free_bytes(path: str | Path) -> int:
    """Free room on the disk on which ``path`` is, or will be.

    Raises:
        UserError: It is a URL.
    """
    if is_url(path):
        raise UserError(f'How much room there is at {path} is not known: say it with --disk, in GiB.')
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place if os.path.isdir(place) else place.parent).free
