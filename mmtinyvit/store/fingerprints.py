"""Fingerprints: plain JSON that says where records come from, and how two of them differ."""
import json
import math
from collections.abc import Mapping
from typing import Any

from .errors import StoreError

__all__ = ['diff_fingerprints', 'plain_json']

MAX_DEPTH = 32


def plain_json(value: Any, origin: str, name: str = 'fingerprints', depth: int = 0) -> Any:
    """A copy of ``value`` in plain dicts and lists.

    Raises:
        StoreError: It holds something that JSON would not give back unchanged, or is nested too deeply; ``origin`` and
            the place are named.
    """
    if depth > MAX_DEPTH:
        raise StoreError(f'{origin}: fingerprints are nested deeper than {MAX_DEPTH} levels.')
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise StoreError(f'{origin}: {name} has the key {key!r}, which is not text.')
        return {key: plain_json(item, origin, f'{name}.{key}', depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item, origin, f'{name}[{i}]', depth + 1) for i, item in enumerate(value)]
    if type(value) not in (str, int, float, bool, type(None)) or (type(value) is float and not math.isfinite(value)):
        raise StoreError(f'{origin}: {name} is {str(value)[:100]!r} of type {type(value).__name__}, which plain JSON '
                         'does not hold: use objects, lists, text, finite numbers, true, false and null.')
    return value


def diff_fingerprints(a: Any, b: Any, name: str = '') -> list[str]:
    """What differs between two pieces of plain JSON, one line each.

    Returns:
        Lines such as ``'pipeline.transforms[2].scale: [0.2, 1] != [0.08, 1]'``, the value of ``a`` on the left; short
        lists without objects in them are compared whole.
    """
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        lines = []
        for key in sorted(set(a) | set(b)):
            path = f'{name}.{key}' if name else key
            if key not in a or key not in b:
                lines.append(f'{path}: {_short(a[key]) if key in a else "(absent)"} != '
                             f'{_short(b[key]) if key in b else "(absent)"}')
            else:
                lines += diff_fingerprints(a[key], b[key], path)
        return lines
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        nested = any(isinstance(item, Mapping | list | tuple) for item in (*a, *b))
        if len(a) == len(b) and (nested or len(a) > 8):
            return [line for i in range(len(a)) for line in diff_fingerprints(a[i], b[i], f'{name}[{i}]')]
        if nested:
            first = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            line = f'{name}: {len(a)} items != {len(b)} items, first difference at [{first}]'
            return [f'{line}: {_short(a[first]) if first < len(a) else "(absent)"} != '
                    f'{_short(b[first]) if first < len(b) else "(absent)"}']
        a, b = list(a), list(b)
    same = a == b and isinstance(a, bool) == isinstance(b, bool)
    return [] if same else [f'{name}: {_short(a)} != {_short(b)}']


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, sort_keys=True)
    return text if len(text) <= 120 else f'{text[:117]}...'
