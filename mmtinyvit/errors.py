"""The one exception that is meant for people.

Every user-facing failure raises :class:`UserError` (or a subclass) with a message of one clear sentence that names the
thing and the way out. The command-line tools print that sentence and exit with status 1; everything else that escapes
is a bug and keeps its traceback.
"""
import re
import unicodedata
from collections.abc import Callable

__all__ = ['UserError', 'other_spelling', 'user_sentence']


class UserError(Exception):
    """A failure caused by input, configuration or the machine, worded for the person who can mend it."""


def user_sentence(error: BaseException) -> str:
    """The sentence of a :class:`UserError`, also after torch has wrapped it in the traceback of a DataLoader worker."""
    text = str(error)
    return re.sub(r'^[\w.]+: ', '', text.rstrip().splitlines()[-1]) if 'Original Traceback' in text else text


def other_spelling(name: str, known: Callable[[str], bool]) -> str:
    """What to say after a name that is not known, if one is that looks the same; else empty.

    Unicode writes letters with accents in two ways: as one character (NFC), as most systems do, or as letter and accent
    (NFD), as macOS does in names of files.
    """
    for form, here in (('NFC', 'NFD'), ('NFD', 'NFC')):
        other = unicodedata.normalize(form, name)
        if other != name and known(other):
            return f' (it is there in the other spelling of Unicode, {form} and not {here}: rename one of them)'
    return ''
