"""What the command-line tools are made of. Each is imported from its own module: some tools need no torch."""
from .command import run_command

__all__ = ['run_command']
