"""What users import: models, published files, ONNX, features, pictures, and what a store or a teacher is worth.

Each function is imported from its own module; those of ``models`` also stand in ``mmtinyvit`` itself.
"""
__all__: list[str] = []
