"""A step is one store or one training: an MMEngine config, known by the hash of it, made once and kept."""
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

__all__ = ['Step', 'fill_places']


@dataclass(frozen=True)
class Step:
    """What is made once.

    The config names the data as ``{data}``, and the folder of another step as ``{KEY}``, so that the hash depends on
    what is measured and not on where. A step that starts from another has that step's hash in its own.

    Args:
        title: For people, and for the name of the folder: not part of the hash.
        text: The config as JSON with sorted keys.
        needs: The steps that come first.
    """
    title: str
    text: str
    needs: tuple['Step', ...] = ()

    @staticmethod
    def of(title: str, config: Mapping[str, Any], *needs: 'Step') -> 'Step':
        """A step from a config of plain values."""
        return Step(title, json.dumps(config, sort_keys=True), needs)

    @cached_property
    def key(self) -> str:
        """12 hexadecimal digits that stand for the settings."""
        return hashlib.blake2b(self.text.encode(), digest_size=6).hexdigest()

    @property
    def place(self) -> str:
        """How another step's config names this one's folder."""
        return f'{{{self.key}}}'

    def folder(self, root: Path) -> Path:
        """Where it lies below ``root``: a readable name and the hash."""
        found = list(root.glob(f'*-{self.key}'))
        name = ''.join(c if c.isalnum() or c in '.%' else '_' for c in self.title)
        return found[0] if found else root / f'{name}-{self.key}'

    def result(self, root: Path) -> dict[str, Any] | None:
        """What came out, or None if it is not finished."""
        path = self.folder(root) / 'result.json'
        return json.loads(path.read_text()) if path.exists() else None

    def prepare(self, root: Path, data: Path) -> Path:
        """Write the settings into the folder, with all places filled in, and return it."""
        folder = self.folder(root)
        folder.mkdir(parents=True, exist_ok=True)
        places = {'data': data} | {step.key: step.folder(root) for step in self.needs}
        (folder / 'config.json').write_text(fill_places(self.text, {k: str(v.resolve()) for k, v in places.items()}))
        return folder


def fill_places(text: str, places: Mapping[str, str]) -> str:
    """``text`` with each ``{name}`` of ``places`` replaced."""
    for name, value in places.items():
        text = text.replace(f'{{{name}}}', value)
    return text
