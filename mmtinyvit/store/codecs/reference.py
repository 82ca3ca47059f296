"""The view of a store that its others are coded relative to."""
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from ..errors import StoreError
from ..layout import Unit, shard_name

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

    def of(self, view: int) -> int | None:
        """The view that the shards of ``view`` are coded relative to, None if they are coded by themselves."""
        return None if view == self.view else self.view

    def in_order(self, units: Collection[Unit]) -> list[Unit]:
        """Units in an order in which they can be written: by view, shard by shard, the reference view first.

        Raises:
            StoreError: One is coded relative to a unit that is not among them; names both.
        """
        shards = {unit.shard for unit in units if unit.view == self.view}
        for unit in units:
            if self.of(unit.view) is not None and unit.shard not in shards:
                raise StoreError(f'View {unit.view}, shard {unit.shard} is coded relative to view {self.view}, shard '
                                 f'{unit.shard}, which no store has: copy it too.')
        return sorted(units, key=lambda unit: (unit.view != self.view, unit))

    def views_in_order(self, views: Iterable[int]) -> list[int]:
        """Views in an order in which they can be written: as they come, the reference view first."""
        return sorted(views, key=lambda view: view != self.view)

    def refuse_without(self, views: Collection[int], place: Path | str,
                       has: Callable[[int], bool] = lambda view: False) -> None:
        """Refuses to put views into a store that would lack the reference view.

        Args:
            views: The views.
            place: The store.
            has: Whether the store has a view already.

        Raises:
            StoreError: It would; names the view.
        """
        if views and self.view is not None and self.view not in views and not has(self.view):
            raise StoreError(f'{place} codes its views relative to view {self.view}, which is not complete: save or '
                             f'copy view {self.view} first, or among the others.')

    def check(self, shard: Path, wanted: bytes, found: bytes, file: Path | str) -> None:
        """Refuses a shard that was coded relative to another shard than the one that is there.

        Args:
            shard: The shard's file.
            wanted: Digest of the records that it was coded relative to.
            found: Digest of those that are there.
            file: Their file.

        Raises:
            StoreError: The digests differ; names both files.
        """
        if wanted != found:
            raise StoreError(f'{shard} was coded relative to another {file} than the one that is there: delete '
                             'the former and save again, or copy both again from the same store.')

    def faults(self, shard: Path, unit: Unit, wanted: bytes, head: Callable[[str, int], bytes],
               where: Callable[[str], Path | str]) -> Iterator[str]:
        """One sentence if a sound shard is relative to one that the store lacks, or has with other records.

        Args:
            shard: The shard's file.
            unit: What it holds.
            wanted: Digest of the records that it was coded relative to.
            head: Reads the first bytes of a file of the store.
            where: Names a file of the store.
        """
        needed = self.of(unit.view)
        if needed is None:
            return
        name = shard_name(needed, unit.shard)
        try:
            self.check(shard, wanted, head(name, _CONTENT.stop)[_CONTENT], where(name))
        except OSError as error:
            yield (f'{shard} is coded relative to {where(name)}, which cannot be read '
                   f'({error.strerror or "it is not there"}): copy it too, or save it again.')
        except StoreError as error:
            yield str(error)
