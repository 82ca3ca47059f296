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
    """The sentence of ``error``, also after a DataLoader worker has wrapped it in the text of its own traceback.

    Args:
        error: A :class:`UserError`; ``torch`` re-raises a worker's exception as the same type whose message is
            ``'Caught X in DataLoader worker process 0.\\nOriginal Traceback ...\\npackage.X: the sentence'``.
    """
    text = str(error)
    if 'Original Traceback' not in text:
        return text
    last = text.rstrip().splitlines()[-1]
    return re.sub(r'^[\w.]+: ', '', last)
