"""The exceptions of the store."""
from ..errors import UserError

__all__ = ['MissingShard', 'StoreError']


class StoreError(UserError):
    """A store that cannot be opened, read or written, worded for the person who can mend it."""


class MissingShard(StoreError):
    """A record whose shard is not there: not saved or not copied yet, which is no damage."""
