"""The commands, each a module with ``build_parser`` and ``main``, and what they are made of.

``console.py`` lists the commands. Each part is imported from its own module: the store's commands that run no model
need no torch.
"""
__all__: list[str] = []
