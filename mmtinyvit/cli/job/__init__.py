"""The whole job of ``mmtinyvit distill``: settings, images, networks, plan, configs, and the steps in turn."""
__all__: list[str] = []
