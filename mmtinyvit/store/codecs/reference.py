"""The view of a store that its others are coded relative to."""
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from ..errors import StoreError
from ..layout import Unit

__all__ = ['Reference']

_CONTENT = slice(64, 80)  # where a shard file with records of variable length has the digest of these


class Reference:
    """The reference view of a store, if its codec has one, and all that follows for those who handle shards.

    A shard of another view is coded relative to the shard of the same number in the reference view. It can be neither
    written nor read without that one, and keeps the digest of its records, so that no other can take its place. Without
    a reference view each shard stands alone, and nothing is refused.

    Args:
        view: The view's number, or None.
    """

    def __init__(self, view: int | None) -> None:
        self.view = view

    def of(self, unit: Unit) -> Unit | None:
        """The unit that ``unit`` is coded relative to, None if it is coded by itself."""
        return None if self.view in (None, unit.view) else replace(unit, view=self.view)

    def in_order(self, units: Collection[Unit]) -> list[Unit]:
        """Units in an order in which they can be written: by view, shard by shard, the reference view first.

        Raises:
            StoreError: One is coded relative to a unit that is not among them; names both.
        """
        for unit in units:
            needed = self.of(unit)
            if needed and needed not in units:
                raise StoreError(f'View {unit.view}, shard {unit.shard} is coded relative to view {self.view}, shard '
                                 f'{unit.shard}, which no store has: copy it too.')
        return sorted(units, key=lambda unit: (unit.view != self.view, unit))

    def refuse_without(self, views: Collection[int], place: Path | str,
                       has: Callable[[int], bool] = lambda view: False) -> None:
        """Refuses to put views into a store that would lack the reference view.

        Args:
            views: The views.
            place: What to call the store.
            has: Whether the store has a view already.

        Raises:
            StoreError: It would; names the view.
        """
        if views and self.view is not None and self.view not in views and not has(self.view):
            raise StoreError(f'{place} codes its views relative to view {self.view}, which is not complete: save or '
                             f'copy view {self.view} first, or among the others.')

    def check(self, shard: Path, wanted: bytes, found: bytes, file: Path | str) -> None:
        """Refuses a shard that was coded relative to records of the digest ``wanted``, not ``found``, as in ``file``.

        Raises:
            StoreError: The digests differ; names both files.
        """
        if wanted != found:
            raise StoreError(f'{shard} was coded relative to another {file} than the one that is there: delete '
                             'the former and save again, or copy both again from the same store.')

    def check_file(self, shard: Path, unit: Unit, wanted: bytes, head: Callable[[str, int], bytes],
                   where: Callable[[str], Path | str]) -> None:
        """As :meth:`check`, for the shard of ``unit``, with what the store has in the place of the other shard.

        Args:
            shard, unit, wanted: The shard's file, what it holds, and the digest of what it was coded relative to.
            head, where: Read the first bytes of a file of the store, and name it.

        Raises:
            StoreError: It is not there, cannot be read, or has other records.
        """
        needed = self.of(unit)
        if needed is None:
            return
        try:
            found = head(needed.file, _CONTENT.stop)[_CONTENT]
        except OSError as error:
            raise StoreError(f'{shard} is coded relative to {where(needed.file)}, which cannot be read '
                             f'({error.strerror or "it is not there"}): copy it too, or save it again.') from error
        self.check(shard, wanted, found, where(needed.file))
