"""What ``mmtinyvit doctor`` looks at: the machine, a folder, and a config with its data, store and teacher."""
from typing import NamedTuple

__all__ = ['Finding']


class Finding(NamedTuple):
    """One line of the answer.

    Attributes:
        name: What was looked at.
        said: What was found.
        good: Whether that fits; None for what is only told.
    """
    name: str
    said: str
    good: bool | None = True
