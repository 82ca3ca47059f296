"""Taking out what is damaged, so that saving again does only what is missing."""
from collections.abc import Callable, Iterable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import StoreError
from ..files import sync_folder, translated
from ..folders import LocalFolder, refuse_url
from ..keys import write_sample_files
from ..layout import INDEX_NAME, MANIFEST_NAME, TEXT_NAME, Unit, finished_name, parse_shard, parse_view
from ..locks import StoreLock
from ..manifest import Manifest, read_manifest
from ..shard import names_another_store
from .verify import Finding, verify_store

__all__ = ['Repair', 'repair_store']

Watch = Callable[[Iterable[Finding]], Iterable[Finding]]


@dataclass
class Repair:
    """What is to be done about a store, or was done.

    Attributes:
        shards: Damaged shards, to be removed and saved again.
        leftovers: Temporary files of processes that died, to be removed.
        rebuild_index: Whether ``samples.idx`` is to be made again from ``samples.txt``, which is sound.
        problems: What cannot be mended here, one sentence each.
        incomplete_views: The views that lack shards once that is done.
        done: Whether it was done.
    """
    shards: list[Path] = field(default_factory=list)
    leftovers: list[Path] = field(default_factory=list)
    rebuild_index: bool = False
    problems: list[str] = field(default_factory=list)
    incomplete_views: list[int] = field(default_factory=list)
    done: bool = False

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.shards or self.leftovers or self.rebuild_index)


def repair_store(path: str | Path, act: bool = False, watch: Watch = iter) -> Repair:
    """Checks every file, and removes damaged shards and what dead processes left.

    A shard that is sound but belongs to another store is never removed: then the manifest may be the wrong file.

    Args:
        path: The store's folder.
        act: Do it. Otherwise nothing is changed, and whatever a job is writing just now counts as left over.
        watch: Wraps the findings of the check, for a progress bar.

    Raises:
        StoreError: There is no store, its manifest is damaged (then nothing can be said about the rest), a job is
            writing to it, or the folder cannot be written to.
    """
    refuse_url(path)
    root = Path(path)
    manifest = read_manifest(root)
    with closing(StoreLock(root)) if act else nullcontext() as lock:
        if act:
            lock.claim_job()
        repair = _examine(root, manifest, watch(verify_store(root)))
        if act:
            with translated(root):
                _carry_out(root, manifest, repair, lock)
    damaged = set(repair.shards)
    for view, shards in LocalFolder(root).shards(manifest).items():
        sound = [shard for shard in shards if root / manifest.unit(view, shard).file not in damaged]
        if len(sound) < manifest.shards_per_view:
            repair.incomplete_views.append(view)
    return repair


def _examine(root: Path, manifest: Manifest, findings: Iterable[Finding]) -> Repair:
    repair, faults = Repair(), {}
    for finding in findings:
        if finding.problem:
            faults.setdefault(finding.path, finding.problem)
    for path, problem in faults.items():
        if path.name == INDEX_NAME and root / TEXT_NAME not in faults:
            repair.rebuild_index = True
        elif path.parent == root or names_another_store(path, manifest.store_id) or _is_orphan(root, manifest, path):
            repair.problems.append(problem)
        elif path.parent.is_symlink():
            repair.problems.append(f'{problem} It is not removed here, since {path.parent} is a link.')
        else:
            repair.shards.append(path)
    files = [root / file for file in sorted(LocalFolder(root).sizes())]
    repair.leftovers = [path for path in files if _is_ours(root, manifest, path)
                        and (path.parent == root or not path.parent.is_symlink())]
    return repair


def _is_orphan(root: Path, manifest: Manifest, path: Path) -> bool:
    """Whether a shard lacks the one that it is relative to: copying that mends it, so it is not to be removed."""
    needed = manifest.reference.of(_unit(manifest, path))
    return needed is not None and not (root / needed.file).exists()


def _is_ours(root: Path, manifest: Manifest, path: Path) -> bool:
    """Whether a file has a name that a writer of this store would give a temporary one."""
    name = finished_name(path.name)
    if path.parent == root:
        return name in (MANIFEST_NAME, TEXT_NAME, INDEX_NAME)
    return name is not None and _unit(manifest, path) is not None


def _unit(manifest: Manifest, path: Path) -> Unit | None:
    """What a shard's file, or temporary file, holds; None if the store has no such shard."""
    shard = parse_shard(finished_name(path.name) or path.name)
    if shard is None or shard >= manifest.shards_per_view:
        return None
    return manifest.unit(parse_view(path.parent.name), shard)


def _carry_out(root: Path, manifest: Manifest, repair: Repair, lock: StoreLock) -> None:
    """Removes under the locks that a writer would hold, so that nothing is taken from a living one."""
    with lock.creating():
        for path in [path for path in repair.leftovers if path.parent == root]:
            path.unlink(missing_ok=True)
        if repair.rebuild_index:
            made = (write_sample_files(root, root / TEXT_NAME, tied)[0] for tied in (True, False))
            if manifest.samples not in made:
                raise StoreError(f'{root / INDEX_NAME} cannot be made again from {TEXT_NAME}: copy it again from where '
                                 'the store was written.')
    for name in ('shards', 'leftovers'):
        for path in [path for path in getattr(repair, name) if path.parent != root]:
            number = manifest.unit_number(_unit(manifest, path))
            if lock.claim_unit(number):
                path.unlink(missing_ok=True)
                lock.release_unit(number)
                sync_folder(path.parent)
            else:
                getattr(repair, name).remove(path)  # being written just now
    repair.done = True
