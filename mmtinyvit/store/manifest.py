"""The manifest: what a store is a store *of*, in one small file that shows any change to itself.

``manifest.json`` is the canonical JSON of its content (sorted keys, two spaces, ASCII, a newline at the end) and
carries the SHA-256 of the rest of itself. A file that is not byte for byte what this library would write from its
content is refused, so no flipped byte goes unnoticed.
"""
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .codecs import MAX_CLASSES, Codec, Reference, codec_names, make_codec
from .errors import StoreError
from .files import open_file, way_out, write_atomically
from .keys import MAX_SAMPLES, SampleFiles
from .layout import INDEX_NAME, MANIFEST_NAME, MAX_VIEW, TEXT_NAME, Unit, default_samples_per_shard

__all__ = ['FORMAT', 'MAX_BYTES', 'Manifest', 'diff_fingerprints', 'dump_manifest', 'parse_manifest', 'read_manifest',
           'write_manifest']

FORMAT = 1
MAX_BYTES = 16 * 2**20
MAX_SAMPLES_PER_SHARD = 2**24
_MAX_DEPTH = 32
_ABSENT = object()
_HEX64 = re.compile(r'[0-9a-f]{64}')


@dataclass(frozen=True)
class Manifest:
    """The identity of a store.

    A manifest that asks for a store leaves ``num_samples``, ``samples_per_shard`` and ``samples`` open; the writer
    settles them. All other fields count with their defaults.

    Attributes:
        topk: Stored classes per record, K.
        num_classes: The teacher's classes, C; at most 65,536.
        fingerprints: Plain JSON about where the records come from: ``dataset``, ``pipeline``, ``teacher``; and
            ``versions`` and ``class_names``, which are recorded but are no part of the identity.
        base_seed: The seed that names the views, unsigned 64 bits.
        codec: Name of the record codec.
        mixing: Whether each record names the sample that it was mixed with.
        num_samples: Samples per view.
        samples_per_shard: Samples per shard file.
        samples: Hashes of the samples files.
        reference_view: The view that the others are coded relative to, by default 0; None, and not in the file, for
            codecs that code each record by itself.
        format: Version of the store's format.
    """
    topk: int
    num_classes: int
    fingerprints: dict[str, Any] = field(default_factory=dict)
    base_seed: int = 0
    codec: str = 'compact'
    mixing: bool = False
    num_samples: int | None = None
    samples_per_shard: int | None = None
    samples: SampleFiles | None = None
    reference_view: int | None = None
    format: int = FORMAT

    @classmethod
    def parse(cls, content: Any, origin: str) -> 'Manifest':
        """Builds a manifest from untrusted plain JSON.

        Args:
            content: What ``json.loads`` returned, or a dict from a config.
            origin: What to call it in errors.

        Raises:
            StoreError: A field is unknown, missing, of the wrong type or out of range; it is named.
        """
        if not isinstance(content, Mapping):
            raise StoreError(f'{origin} is not a JSON object.')
        version = content.get('format', FORMAT)
        if type(version) is int and version > FORMAT:
            raise StoreError(f'{origin} has format {version}, and this library reads up to {FORMAT}: upgrade '
                             'mmtinyvit.')
        unknown = sorted(set(map(str, content)) - set(cls.__dataclass_fields__))
        if unknown:
            raise StoreError(f'{origin} has the unknown fields {", ".join(unknown)[:200]}.')
        missing = sorted({'topk', 'num_classes'} - set(content))
        if missing:
            raise StoreError(f'{origin} lacks {" and ".join(missing)}.')
        fields = dict(content, fingerprints=_plain_json(content.get('fingerprints', {}), origin))
        if isinstance(fields.get('samples'), Mapping):
            if set(fields['samples']) != set(SampleFiles.__dataclass_fields__):
                raise StoreError(f'{origin}: samples must have exactly text_sha256, index_sha256 and key_salt.')
            fields['samples'] = SampleFiles(**fields['samples'])
        manifest = cls(**fields)
        manifest._check(origin)
        if manifest.record_codec.relative and manifest.reference_view is None:
            return replace(manifest, reference_view=0)
        return manifest

    def _check(self, origin: str) -> None:
        def need(name: str, good: bool, rule: str) -> None:
            if not good:
                raise StoreError(f'{origin}: {name} must be {rule}, not {str(getattr(self, name))[:100]!r}.')

        def need_number(name: str, low: int, high: int, words: str = '', optional: bool = False) -> None:
            value = getattr(self, name)
            need(name, (optional and value is None) or _is_int(value, low, high),
                 f'a whole number from {low} to {words or high}')

        need_number('format', 1, FORMAT)
        need_number('num_classes', 1, MAX_CLASSES)
        need_number('topk', 1, self.num_classes, f'num_classes={self.num_classes}')
        need_number('base_seed', 0, 2**64 - 1, '2**64 - 1')
        need('codec', isinstance(self.codec, str) and self.codec in codec_names(), f'one of {", ".join(codec_names())}')
        need('mixing', type(self.mixing) is bool, 'true or false')
        need_number('num_samples', 1, MAX_SAMPLES, optional=True)
        need_number('samples_per_shard', 1, MAX_SAMPLES_PER_SHARD, optional=True)
        need('samples', self.samples is None or (
            isinstance(self.samples, SampleFiles) and _is_int(self.samples.key_salt, 0, 2**31)
            and all(isinstance(text, str) and _HEX64.fullmatch(text)
                    for text in (self.samples.text_sha256, self.samples.index_sha256))),
             'two SHA-256 in hexadecimal and a salt')
        if self.record_codec.relative:
            need_number('reference_view', 0, MAX_VIEW, optional=True)
        else:
            need('reference_view', self.reference_view is None, f'left out with codec {self.codec!r}')
        if not isinstance(self.fingerprints, dict):
            raise StoreError(f'{origin}: fingerprints must be an object, not {str(self.fingerprints)[:100]!r}.')

    def settle(self, num_samples: int, samples: SampleFiles) -> 'Manifest':
        """The manifest of a store with these samples."""
        size = self.samples_per_shard or default_samples_per_shard(num_samples)
        return replace(self, num_samples=num_samples, samples=samples, samples_per_shard=size)

    def identity(self) -> dict[str, Any]:
        """Everything that decides what the records mean and where they lie, as plain JSON.

        Library versions are left out: the canaries tell whether a library changed what a view is. So is the hash of
        the index, which follows from the text.
        """
        content = _content(self)
        del content['samples']
        content['samples_text_sha256'] = self.samples.text_sha256 if self.samples else None
        content['fingerprints'] = {name: value for name, value in self.fingerprints.items()
                                   if name not in ('versions', 'class_names')}
        return content

    def comparable(self) -> dict[str, Any]:
        """:meth:`identity` without the class list of the images: it numbers labels, and a teacher reads no label."""
        content = self.identity()
        dataset = content['fingerprints'].get('dataset')
        if isinstance(dataset, dict):
            content['fingerprints']['dataset'] = {name: value for name, value in dataset.items()
                                                  if name not in ('num_classes', 'classes_hash')}
        return content

    @cached_property
    def store_id(self) -> bytes:
        """16 bytes that every shard repeats: stores with the same identity may exchange shards."""
        return hashlib.sha256(_canonical(self.identity())).digest()[:16]

    def differences(self, other: 'Manifest') -> list[str]:
        """One line per field in which two stores differ, ours first; what either leaves open is not compared."""
        own_fields, other_fields = self.comparable(), other.comparable()
        for name in ('num_samples', 'samples_per_shard', 'samples_text_sha256'):
            if own_fields[name] is None or other_fields[name] is None:
                del own_fields[name], other_fields[name]
        prints = diff_fingerprints(own_fields.pop('fingerprints'), other_fields.pop('fingerprints'))
        pairs = enumerate(zip(self.class_names or (), other.class_names or (), strict=False))
        names = [f'name of class {i}: {a} != {b}' for i, (a, b) in pairs if a != b][:1]
        return diff_fingerprints(own_fields, other_fields) + prints + names

    # ---------------------------------------------------------------- what follows from the fields
    @property
    def record_codec(self) -> Codec:
        """What packs and unpacks the records."""
        return make_codec(self.codec, self.topk, self.num_classes)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What the teacher's classes are called, in their order; None if the store does not say it."""
        text = self.fingerprints.get('class_names')  # one a line
        names = tuple(text.split('\n')) if isinstance(text, str) else ()
        return names if len(names) == self.num_classes else None

    @cached_property
    def reference(self) -> Reference:
        """What the records are coded relative to."""
        return Reference(self.reference_view)

    @property
    def record_bytes(self) -> int:
        """Bytes per record, the partner's hash included; at most, if the codec cuts off zeros."""
        return self.record_codec.record_bytes + 8 * self.mixing

    @property
    def shards_per_view(self) -> int:
        """Shards of a complete view."""
        return -(-self.num_samples // self.samples_per_shard)

    @property
    def sample_files(self) -> dict[str, str]:
        """The names of the two samples files, and the SHA-256 of each."""
        return {TEXT_NAME: self.samples.text_sha256, INDEX_NAME: self.samples.index_sha256}

    def unit(self, view: int, shard: int) -> Unit:
        """The unit of work behind one shard; the last one of a view may be shorter."""
        first = shard * self.samples_per_shard
        return Unit(view, shard, first, min(self.samples_per_shard, self.num_samples - first))

    def units(self, shards: Mapping[int, Iterable[int]]) -> list[Unit]:
        """The units behind some shards of each view, in the order of the views and then of the shards."""
        return [self.unit(view, shard) for view, some in shards.items() for shard in sorted(some)]

    def unit_number(self, unit: Unit) -> int:
        """The number under which writers lock a unit."""
        return unit.view * self.shards_per_view + unit.shard


def _is_int(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, indent=2, allow_nan=False).encode('ascii') + b'\n'


def _content(manifest: Manifest) -> dict[str, Any]:
    content = asdict(manifest)
    if manifest.reference_view is None:
        del content['reference_view']
    return content


def _dump(manifest: Manifest) -> bytes:
    content = _content(manifest)
    content['sha256'] = hashlib.sha256(_canonical(content)).hexdigest()
    return _canonical(content)


def dump_manifest(manifest: Manifest, root: Path | str) -> bytes:
    """The content of ``manifest.json`` for a store at ``root``. Raises :class:`StoreError` if it is too large."""
    data = _dump(manifest)
    if len(data) > MAX_BYTES:
        raise StoreError(f'The manifest of {root} would have {len(data)} bytes, more than {MAX_BYTES}: put hashes '
                         'into the fingerprints instead of content.')
    return data


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Writes ``manifest.json``, whole or not at all."""
    write_atomically(root / MANIFEST_NAME, [dump_manifest(manifest, root)])


def read_manifest(root: Path) -> Manifest:
    """Reads and checks ``manifest.json``, which may come from anyone.

    Raises:
        StoreError: There is none, or it is damaged, malformed, or of a newer format.
    """
    path = root / MANIFEST_NAME
    try:
        with open_file(path) as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise StoreError(f'There is no store at {root} (it has no {MANIFEST_NAME}): check the path, or save one with '
                         '"mmtinyvit save".') from None
    except OSError as error:
        raise StoreError(f'{path} cannot be read ({error.strerror}): {way_out(error)}.') from error
    return parse_manifest(data, str(path))


def parse_manifest(data: bytes, origin: str) -> Manifest:
    """Checks the bytes of a ``manifest.json``, called ``origin``; no more than ``MAX_BYTES + 1`` are needed.

    Raises:
        StoreError: They are damaged, malformed, or of a newer format.
    """
    if len(data) > MAX_BYTES:
        raise StoreError(f'{origin} is larger than {MAX_BYTES} bytes, which no manifest is.')
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise StoreError(f'{origin} is not JSON; it is damaged: copy it again from where the store was '
                         'written.') from None
    sha = content.pop('sha256', None) if isinstance(content, dict) else None
    manifest = Manifest.parse(content, origin)
    if manifest.num_samples is None or manifest.samples_per_shard is None or manifest.samples is None:
        raise StoreError(f'{origin} does not say num_samples, samples_per_shard and samples.')
    if _dump(manifest) != data:
        raise StoreError(f'{origin} was changed after it was written (its SHA-256 begins {str(sha)[:8]!r}): copy it '
                         'again from where the store was written.')
    return manifest


# ---------------------------------------------------------------- fingerprints
def _plain_json(value: Any, origin: str, name: str = 'fingerprints', depth: int = 0) -> Any:
    """A copy of ``value`` in plain dicts and lists; refuses what JSON would not give back unchanged."""
    if depth > _MAX_DEPTH:
        raise StoreError(f'{origin}: fingerprints are nested deeper than {_MAX_DEPTH} levels.')
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise StoreError(f'{origin}: {name} has the key {key!r}, which is not text.')
        return {key: _plain_json(item, origin, f'{name}.{key}', depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_json(item, origin, f'{name}[{i}]', depth + 1) for i, item in enumerate(value)]
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
        return [line for key in sorted(set(a) | set(b)) for line in diff_fingerprints(
            a.get(key, _ABSENT), b.get(key, _ABSENT), f'{name}.{key}' if name else key)]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        nested = any(isinstance(item, Mapping | list | tuple) for item in (*a, *b))
        if len(a) == len(b) and (nested or len(a) > 8):
            return [line for i in range(len(a)) for line in diff_fingerprints(a[i], b[i], f'{name}[{i}]')]
        if nested:
            pairs = enumerate(zip_longest(a, b, fillvalue=_ABSENT))
            first, (x, y) = next(pair for pair in pairs if pair[1][0] != pair[1][1])
            return [f'{name}: {len(a)} items != {len(b)} items, first difference at [{first}]: {_short(x)} != '
                    f'{_short(y)}']
        a, b = list(a), list(b)
    same = a == b and isinstance(a, bool) == isinstance(b, bool)
    return [] if same else [f'{name}: {_short(a)} != {_short(b)}']


def _short(value: Any) -> str:
    text = '(absent)' if value is _ABSENT else json.dumps(value, default=str, sort_keys=True)
    return text if len(text) <= 120 else f'{text[:117]}...'
