"""A file of JSON lines that grows: what is known is never found out twice."""
import json
import os
from pathlib import Path
from typing import Any

from mmtinyvit.errors import UserError

__all__ = ['Journal']


class Journal:
    """Lines that were appended to a file, by this process and those before it.

    A line that a killed process left incomplete at the end is passed over, and cut off before the next is written.
    Reading changes nothing: another process may be writing.

    Args:
        path: The file; made with its folder when the first line comes.

    Raises:
        UserError: The file cannot be read, or has a line that is none of a journal's.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lines = path, []
        try:
            data = path.read_bytes() if path.exists() else b''
            whole = data[:data.rfind(b'\n') + 1]
            self.lines = [json.loads(line) for line in whole.splitlines()]
            self.torn_at = len(whole) if len(whole) < len(data) else None
        except (OSError, ValueError) as error:
            raise UserError(f'{path} cannot be read as JSON lines ({error}): mend it, or choose another --out.'
                            ) from error

    def append(self, **line: Any) -> dict[str, Any]:
        """Write a line, and return it as it will be read."""
        text = json.dumps(line)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.torn_at is not None:
                os.truncate(self.path, self.torn_at)
                self.torn_at = None
            with self.path.open('a') as file:
                file.write(f'{text}\n')
        except OSError as error:
            raise UserError(f'{self.path} cannot be written to ({error.strerror}): mend that and repeat the command, '
                            'or choose another --out.') from error
        self.lines.append(json.loads(text))
        return self.lines[-1]

    def clear(self) -> None:
        """Begin anew."""
        self.path.unlink(missing_ok=True)
        self.lines, self.torn_at = [], None

    def find(self, **wanted: Any) -> dict[str, Any] | None:
        """The first line with these values; None if there is none."""
        return next((line for line in self.lines if all(line.get(name) == value for name, value in wanted.items())),
                    None)
