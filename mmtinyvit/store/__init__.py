"""Sparse teacher logits on disk: compact, checksummed, crash-safe. Needs no torch."""
from .admin.verify import Finding, verify_store
from .codecs import Codec, codec_names, make_codec
from .errors import MissingShard, StoreError
from .keys import key_hash
from .layout import Unit, default_samples_per_shard
from .manifest import FORMAT, Manifest, diff_fingerprints, read_manifest
from .packing import pack_unit
from .part_writer import PartWriter
from .pending import PendingRecords
from .reader import Coverage, LogitStore
from .record import Record, mix_logits
from .writer import LogitWriter

__all__ = [
    'FORMAT', 'Codec', 'Coverage', 'Finding', 'LogitStore', 'LogitWriter', 'Manifest', 'MissingShard', 'PartWriter',
    'PendingRecords', 'StoreError', 'Record', 'Unit', 'codec_names', 'default_samples_per_shard',
    'diff_fingerprints', 'key_hash', 'make_codec', 'mix_logits', 'pack_unit', 'read_manifest', 'verify_store'
]
