"""Where the labels of a data set are: in folders and archives, in WebDataset's members, in a list, or nowhere."""
import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from .data_root import DataRoot
from .layouts import Source, list_source
from .listing import Listing

__all__ = ['LabelRule', 'label_rule', 'number_classes']


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
        option = _guess(root, layout, sources)
    if option in ('class', 'none'):
        if option == 'class' and layout == 'shards':
            raise UserError('Shards are no classes: choose --labels cls, json:FIELD, FILE or none.')
        return LabelRule(option)
    if option == 'cls' or option.startswith('json:'):
        if any(source.kind != 'tar' for source in sources):
            raise UserError(f'--labels {option} reads members of tar files, which {root} does not hold: choose class, '
                            'FILE or none.')
        return LabelRule('member', option)
    return LabelRule('list', listed=read_list(option), path=option)


def _guess(root: DataRoot, layout: str, sources: Sequence[Source]) -> str:
    if layout == 'shards':
        return 'cls' if any(list_source(root, sources[0], 'cls').labels) else 'none'
    if layout == 'folders':
        return 'none' if [source.name for source in sources] == [''] else 'class'
    if layout == 'class-archives':
        return 'class'
    beside = Path(root.root, f'{sources[0].stem}_map.txt')  # train.zip and train_map.txt
    if beside.is_file():
        return str(beside)
    return 'class' if any('/' in name for name in list_source(root, sources[0]).names) else 'none'


def read_list(path: str) -> dict[str, str]:
    """Label of each key, from lines of ``key label`` or ``key,label``; what stands before the last space or tab is the
    key.

    Raises:
        UserError: The file cannot be read, or a line has no label, or a key stands twice with different labels.
    """
    try:
        with open(path, encoding='utf-8', errors='surrogateescape', newline='') as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise UserError(f'The label list {path} cannot be read ({error.strerror}): name a file with lines of `key '
                        'label`, or class, cls, json:FIELD or none.') from error
    comma = bool(lines) and ',' in lines[0].rsplit(None, 1)[-1]  # which would be the label, were it no csv
    rows = csv.reader(lines) if comma else (line.rsplit(None, 1) for line in lines)
    listed: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        if not row or (number == 1 and comma and row[1:2] == ['label']):
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

    Labels that are numbers count as such where they come from members or a list. Others are class names: in the given
    order, or sorted.

    Raises:
        UserError: A label is not among the classes.
    """
    labels = set(labels)
    if rule.kind in ('member', 'list') and all(label.isdecimal() for label in labels):
        count = 1 + max(map(int, labels), default=-1)
        if classes is not None and count > len(classes):
            raise UserError(f'{rule} has the label {count - 1}, but {len(classes)} classes are listed: correct '
                            '--classes or --labels.')
        return list(classes or map(str, range(count))), {label: int(label) for label in labels}
    names = sorted(labels) if classes is None else list(classes)
    numbers = {name: number for number, name in enumerate(names)}
    if rule.kind != 'class' and (strange := labels - numbers.keys()):
        raise UserError(f'{rule} has the label {min(strange)}, which is not among the {len(names)} listed classes: '
                        'correct --classes or --labels.')
    return names, numbers
