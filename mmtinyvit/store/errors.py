"""The one exception of the store."""
from ..errors import UserError

__all__ = ['StoreError']


class StoreError(UserError):
    """A store that cannot be opened, read or written, worded for the person who can mend it."""
