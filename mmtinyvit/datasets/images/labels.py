"""Where the labels of a data set are: in folders and archives, in WebDataset's members, in a list, or nowhere."""
import csv
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from .data_root import DataRoot
from .layouts import Source, peek
from .listing import Listing, is_image

__all__ = ['LabelRule', 'label_rule', 'number_classes']


_LONGEST_LIST = 2**32  # bytes
_MOST_CLASSES = 2**20  # a number that large is no class


@dataclass(frozen=True)
class LabelRule:
    """How an image gets its label, as text.

    Attributes:
        kind: ``'class'``: its folder or archive; ``'member'``: a member beside it; ``'list'``: a file; ``'none'``.
        member: Which member, see :func:`.listing.list_tar`.
        listed: Label of each key that a list names.
        path: The list.
    """
    kind: str
    member: str | None = None
    listed: dict[str, str] | None = None
    path: str = ''

    def __str__(self) -> str:
        names = {'class': 'folders or archives', 'member': f'the {self.member} members', 'list': self.path}
        return names.get(self.kind, 'none')

    def labels(self, layout: str, source: Source, keys: Sequence[str], listing: Listing) -> list[str | None]:
        """The label of each image of a source; None for one that the list does not name, and for all without labels.

        Raises:
            UserError: An image has no class folder, or no member with its label.
        """
        if self.kind == 'none':
            return [None] * len(keys)
        if self.kind == 'list':
            return [self.listed.get(key) for key in keys]
        if self.kind == 'class' and layout == 'class-archives':
            return [source.stem] * len(keys)
        found = listing.labels
        if self.kind == 'class':
            found = [key.partition('/')[0] if '/' in key else '' for key in keys]
        if '' in found:
            missing = f'has no .{self.member.partition(":")[0]} beside it' if self.kind == 'member' else (
                'is in no class folder')
            raise UserError(f'{found.count("")} images of {source.name or "the data root"} have no label '
                            f'({keys[found.index("")]} {missing}): add it, or choose another --labels, such as none.')
        return found


def label_rule(option: str | None, root: DataRoot, layout: str, sources: Sequence[Source]) -> LabelRule:
    """What ``--labels`` means for a data set.

    Args:
        option: ``'class'``, ``'cls'``, ``'json:FIELD'``, ``'none'``, or the path of a list; None finds out.
        root: The data root.
        layout: See :mod:`.layouts`.
        sources: Its folders and archives.

    Raises:
        UserError: The list cannot be read, or ``cls`` and ``json`` are asked of what holds no members.
    """
    if option is None:
        name = f'{sources[0].stem}_map.txt'  # train.zip and train_map.txt
        data = root.read(name, _LONGEST_LIST) if layout == 'archive' else None
        if data is not None:
            return LabelRule('list', listed=read_list(data, f'{root}/{name}'), path=f'{root}/{name}')
        option = _guess(root, layout, sources)
    if option in ('class', 'none'):
        if option == 'class' and layout == 'shards':
            raise UserError('Shards are no classes: choose --labels cls, json:FIELD, FILE or none.')
        return LabelRule(option)
    if option in ('json', 'json:'):
        raise UserError('--labels json needs the field that holds the label, such as json:label.')
    if option == 'cls' or option.startswith('json:'):
        if any(source.kind != 'tar' for source in sources):
            raise UserError(f'--labels {option} reads members of tar files, which {root} does not hold: choose class, '
                            'FILE or none.')
        return LabelRule('member', option)
    try:
        return LabelRule('list', listed=read_list(Path(option).read_bytes(), option), path=option)
    except OSError as error:
        raise UserError(f'The label list {option} cannot be read ({error.strerror}): name a file with lines of `key '
                        'label`, or class, cls, json:FIELD or none.') from error


def _guess(root: DataRoot, layout: str, sources: Sequence[Source]) -> str:
    if layout == 'folders':
        return 'none' if [source.name for source in sources] == [''] else 'class'
    if layout == 'class-archives':
        return 'class'
    names = peek(root, sources[0])
    if layout == 'shards':
        return 'cls' if any(name.lower().endswith('.cls') for name in names) else 'none'
    return 'class' if any('/' in posixpath.normpath(name) for name in names if is_image(name)) else 'none'


def read_list(data: bytes, path: str) -> dict[str, str]:
    """Label of each key, from lines of ``key label`` or ``key,label``; what stands before the last space or tab is the
    key.

    Args:
        data: The file's content.
        path: Its name.

    Raises:
        UserError: A line has no label, or a key stands twice with different labels.
    """
    lines = data.decode(errors='surrogateescape').splitlines()
    comma = bool(lines) and ',' in lines[0].rsplit(None, 1)[-1]  # which would be the label, were it no csv
    try:
        rows = list(csv.reader(lines)) if comma else [line.rsplit(None, 1) for line in lines]
    except csv.Error as error:
        raise UserError(f'The label list {path} is no csv file ({error}): write lines of `key,label`.') from error
    listed: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        if not row or (number == 1 and comma and row[1:2] and row[1].strip().lower() in ('label', 'class')):
            continue
        if len(row) < 2:
            raise UserError(f'Line {number} of the label list {path} has no label: write `key label` or `key,label`.')
        key, label = row[0].removeprefix('./'), row[1].strip()
        if listed.setdefault(key, label) != label:
            raise UserError(f'The label list {path} gives {key} two labels, {listed[key]} and {label}: keep one.')
    if not listed:
        raise UserError(f'The label list {path} is empty: write lines of `key label` or `key,label`.')
    return listed


def number_classes(labels: Iterable[str], classes: Sequence[str] | None,
                   rule: LabelRule) -> tuple[list[str], dict[str, int]]:
    """Class names in label order, and the number of each label.

    Labels are class names, numbered in the given order, or sorted. Where they come from members or a list and are
    numbers, they count as such, unless the given classes have all of them as names.

    Raises:
        UserError: A label is not among the classes, or is no number as the others are, or is too large for one.
    """
    labels = set(labels)
    digits = {label for label in labels if label.isdecimal()}
    if rule.kind == 'class' or not digits or (classes is not None and labels <= set(classes)):
        names = sorted(labels) if classes is None else list(classes)
        numbers = {name: number for number, name in enumerate(names)}
        if rule.kind != 'class' and (strange := labels - numbers.keys()):
            raise UserError(f'{rule} has the label {min(strange)}, which is not among the {len(names)} listed classes: '
                            'correct --classes or --labels.')
        return names, numbers
    if others := labels - digits:
        raise UserError(f'{rule} has labels that are numbers, such as {min(digits)}, and others, such as '
                        f'{min(others)}: correct them, or list all names with --classes.')
    largest = max(digits, key=lambda label: (len(label.lstrip('0')), label.lstrip('0')))
    limit = _MOST_CLASSES if classes is None else len(classes)
    if len(largest.lstrip('0')) > 9 or int(largest) >= limit:
        raise UserError(f'{rule} has the label {largest[:40]}, but {limit:,} classes are '
                        f'{"the most" if classes is None else "listed"}: correct --classes or --labels.')
    return list(classes or map(str, range(int(largest) + 1))), {label: int(label) for label in digits}
