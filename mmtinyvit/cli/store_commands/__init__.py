"""The subcommands of ``mmtinyvit store``: each calls the library and shows what it found.

Only those that take a config import torch and MMEngine, and only when they run.
"""
from .contents import info, show
from .costs import plan
from .labels import clean, stats
from .pictures import gallery
from .upkeep import copy, import_cream, merge, repair, reshard, verify

__all__ = ['clean', 'copy', 'gallery', 'import_cream', 'info', 'merge', 'plan', 'repair', 'reshard', 'show', 'stats',
           'verify']
