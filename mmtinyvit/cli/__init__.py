"""What the commands in ``tools/`` are made of.

Each part is imported from its own module: the store's commands that run no model need no torch.
"""
__all__: list[str] = []
