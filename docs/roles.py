"""Links in docstrings, for the reference pages: ``:class:`~package.Name` `` as mkdocstrings knows them."""
import re
from typing import Any

import griffe

__all__ = ['Roles']

ROLE = re.compile(r':(?:class|func|meth|data|attr|mod|exc):`(~?)(?:([^`<]*) <)?([\w.]+)>?`')


class Roles(griffe.Extension):
    """Turns Sphinx's roles into Markdown: a link where the page of the name exists, code elsewhere."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(_link, obj.docstring.value)


def _link(role: re.Match[str]) -> str:
    short, text, path = role.groups()
    shown = text or (path.rpartition('.')[2] if short else path)
    return f'<autoref identifier="{path}" optional>`{shown}`</autoref>'
