"""The one exception that is meant for people.

Every user-facing failure raises :class:`UserError` (or a subclass) with a message of one clear sentence that names the
thing and the way out. The command-line tools print that sentence and exit with status 1; everything else that escapes
is a bug and keeps its traceback.
"""
import re

__all__ = ['UserError', 'user_sentence']


class UserError(Exception):
    """A failure caused by input, configuration or the machine, worded for the person who can mend it."""


def user_sentence(error: BaseException) -> str:
    """The sentence of a :class:`UserError`, also after torch has wrapped it in the traceback of a DataLoader worker."""
    text = str(error)
    return re.sub(r'^[\w.]+: ', '', text.rstrip().splitlines()[-1]) if 'Original Traceback' in text else text
