"""What the command-line tools are made of."""
from .command import run_command
from .config import load_config, merge_training_flags

__all__ = ['load_config', 'merge_training_flags', 'run_command']
