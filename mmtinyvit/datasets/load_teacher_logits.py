"""LoadTeacherLogits: what the teacher said about this view, out of the store."""
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.logging import print_log
from mmpretrain.datasets import PackInputs

from mmtinyvit.errors import UserError
from mmtinyvit.evaluation.class_map import require_same_classes
from mmtinyvit.registry import TRANSFORMS
from mmtinyvit.store import LogitStore, MissingShard, Record, mix_logits
from mmtinyvit.store.layout import MANIFEST_NAME
from mmtinyvit.store.record import check_weights

from .seeding import derive_seed
from .views import iter_transforms, refuse_joined

__all__ = ['LoadTeacherLogits', 'TEACHER_KEYS', 'PackViewInputs', 'find_reader', 'find_store', 'ignore_stores',
           'use_store']

MODES = ('stored', 'auto', 'online')
TEACHER_KEYS = ('teacher_index', 'teacher_log_prob', 'teacher_tail_mass', 'teacher_partner')  # a Record's, in order
SETTINGS = dict(store='store', mode='mode', weights='store_weights',
                topk='store_topk')  # argument of the transform: name in a config


@TRANSFORMS.register_module()
class LoadTeacherLogits(BaseTransform):
    """Read one record of a store, or of several.

    Required Keys:

    - sample_key (str), view (int), aug_seed (int): As added by ``SeededAugment``.
    - teacher_record (tuple, optional): Name and record of the view, added ahead by :meth:`prepare_batch`.

    Added Keys:

    - teacher_index (np.ndarray): ``(K,)`` int64, classes in ascending order.
    - teacher_log_prob (np.ndarray): ``(K,)`` float32, natural logarithms.
    - teacher_tail_mass (np.ndarray): ``()`` float32, the probability of all other classes together.
    - teacher_partner (np.ndarray): ``()`` uint64, the key hash of the sample that the teacher saw mixed in; only from
      a store that was saved with mixing.

    Of several stores, the record is the weighted mean of what their teachers say, see
    :func:`~mmtinyvit.store.mix_logits`.

    A recipe names them at its top level, as ``store``, ``mode``, ``store_weights`` and ``store_topk``, and
    :func:`use_store` passes them on; what is set here comes first.

    Args:
        store: Folder of the store, or several folders.
        mode: ``'stored'``, the default, reads every record. ``'auto'`` leaves a view that is not stored yet to
            ``CacheLogitsHook``, whose teacher answers and adds it to the store; nothing is added here. ``'online'``
            reads nothing, and the teacher answers every time.
        weights: Of several stores, one positive number each, scaled to sum to 1; all alike by default.
        topk: Read so many of the classes that each store has, the most probable; the others join the tail mass, as if
            the store had been saved so. None reads all.

    Raises:
        UserError: The view's seed is not the store's, or there is no such record (a ``StoreError``, which names store,
            view and key). In ``auto`` only an absent view or shard is left alone: damage is an error all the same.
    """

    def __init__(self, store: str | Sequence[str] | None = None, mode: str | None = None,
                 weights: Sequence[float] | None = None, topk: int | None = None) -> None:
        self.given = {name: value for name, value in dict(store=store, mode=mode, weights=weights, topk=topk).items()
                      if value is not None}
        self.settings: dict[str, Any] | None = None  # of the pipeline and the config together, once they are known
        self.use(**self.given)

    def use(self, store: str | Sequence[str] | None = None, mode: str = 'stored',
            weights: Sequence[float] | None = None, topk: int | None = None) -> None:
        """Set what to read, with the arguments of the transform. Raises :class:`UserError` if they make no sense."""
        self.paths = [store] if isinstance(store, (str, Path)) else list(store or ())
        if store is not None and not self.paths:
            raise UserError('LoadTeacherLogits needs the folder of a store: store= is empty.')
        if mode not in MODES:
            raise UserError(f"mode={mode!r} of LoadTeacherLogits must be one of {', '.join(MODES)}.")
        if mode != 'stored' and len(self.paths) > 1:
            raise UserError(f'mode={mode!r} of LoadTeacherLogits is for one store, and {len(self.paths)} are named: '
                            'save each with its teacher first, or save mmtinyvit.EnsembleClassifier into one store.')
        if mode == 'auto' and any('://' in str(path) for path in self.paths):
            raise UserError(f'mode={mode!r} of LoadTeacherLogits writes to the store, and nothing writes to a URL '
                            f'such as {self.paths[0]}: name a local folder.')
        if mode != 'stored' and topk is not None:
            raise UserError(f'topk={topk} of LoadTeacherLogits reads a part of what is stored, and mode={mode!r} asks '
                            'a teacher too: set topk= of CacheLogitsHook, which saves so many.')
        self.mode, self.topk = mode, topk
        self.weights = check_weights(weights, len(self.paths)) if self.paths else []
        self._stores: list[LogitStore] = []  # opened at the first use in each process

    @property
    def stores(self) -> list[LogitStore]:
        """The stores. Raises :class:`UserError` if none is named, there is none, or they do not fit together."""
        if not self._stores:
            self.require_store()
            stores = [LogitStore(path) for path in self.paths]
            for other in stores[1:]:
                if other.num_classes != stores[0].num_classes:
                    raise UserError(f'The store {stores[0].root} has {stores[0].num_classes} classes and {other.root} '
                                    f'has {other.num_classes}: combine teachers of the same classes.')
                names = stores[0].manifest.class_names, other.manifest.class_names
                if None not in names:
                    require_same_classes(*names, f'The store {stores[0].root} is of {{ours}} and {other.root} of '
                                         '{theirs}', 'combine teachers of the same classes in the same order.')
            for store in stores:
                store.require_classes(self.topk)
                store.prepare()
            self._stores = stores
        return self._stores

    def require_store(self) -> None:
        """Raises :class:`UserError` if no store is named."""
        if not self.paths:
            raise UserError('LoadTeacherLogits has no store: set store= at the top level of the config, which '
                            'SparseLogitDistillHook and CacheLogitsHook pass on, or in the transform.')

    def prepare_batch(self, batch: Sequence[dict]) -> None:
        """Read the records of a whole batch, for the views that ``SeededAugment`` has named."""
        named: dict[int, list[dict]] = {}
        for results in batch:
            if 'view_name' in results:
                named.setdefault(results['view_name'].view, []).append(results)
        for view, group in named.items():
            keys, seeds = zip(*((results['view_name'].key, results['view_seed'].value) for results in group),
                              strict=True)
            try:
                records = self._read(view, keys, seeds)
            except UserError:  # a transform may yet give a sample another name; if not, `transform` says what is wrong
                continue
            for row, results in enumerate(group if records is not None else ()):
                results['teacher_record'] = (keys[row], view, seeds[row]), records.row(row)

    def transform(self, results: dict) -> dict:
        for name in ('sample_key', 'view', 'aug_seed'):
            if name not in results:
                raise UserError(f"LoadTeacherLogits needs '{name}': put SeededAugment before it in the pipeline.")
        key, view, seed = results['sample_key'], results['view'], results['aug_seed']
        prepared_name, record = results.pop('teacher_record', (None, None))
        if prepared_name != (key, view, seed):
            records = self._read(view, [key], [seed])
            if records is None:
                return results
            record = records.row(0)
        return results | {name: value for name, value in zip(TEACHER_KEYS, record, strict=True) if value is not None}

    def _read(self, view: int, keys: Sequence[str], seeds: Sequence[int]) -> Record | None:
        """What the stores say together about one view of some samples; None where that is left to the hook."""
        if self.mode == 'online':
            return None
        if self.mode == 'auto' and self.paths and not self._stores and not Path(self.paths[0], MANIFEST_NAME).exists():
            return None  # asked again until the store is created
        records = []
        for store in self.stores:
            for key, seed in zip(keys, seeds, strict=True):
                if seed != derive_seed(store.base_seed, view, key):
                    raise UserError(f'View {view} of {key} was augmented with another seed than the store {store.root} '
                                    f'holds: set base_seed={store.base_seed} in SeededAugment.')
            try:
                records.append(store.read(view, keys, self.topk))
            except MissingShard:
                if self.mode == 'auto':  # of a whole batch, some may be there
                    return None
                raise
        return records[0] if len(records) == 1 else mix_logits(records, self.weights, self.stores[0].num_classes)

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(store={self.paths}, mode={self.mode!r}, weights={self.weights}, '
                f'topk={self.topk})')


@TRANSFORMS.register_module()
class PackViewInputs(PackInputs):
    """``mmpretrain.PackInputs`` that keeps the view's name and the teacher's record, where there are any.

    Required Keys:

    - img (np.ndarray): ``(H, W, 3)``.
    - gt_label, base_seed, view, sample_key, aug_seed, teacher_* (optional).

    Added Keys:

    - inputs (Tensor): ``(3, H, W)``, of the image's type: normalisation comes later, on the device.
    - data_samples (DataSample): The name as metainfo, the record as data.
    """

    def __init__(self, input_key: str = 'img', algorithm_keys: tuple = (),
                 meta_keys: tuple = ('sample_idx', 'img_path')) -> None:
        super().__init__(input_key, (*algorithm_keys, *TEACHER_KEYS),
                         (*meta_keys, 'base_seed', 'view', 'sample_key', 'aug_seed'))


def find_reader(dataset: Any) -> LoadTeacherLogits:
    """The one ``LoadTeacherLogits`` of a dataset's pipeline. Raises :class:`UserError` if there is none, or two."""
    found = [t for t in iter_transforms(dataset) if isinstance(t, LoadTeacherLogits)]
    if len(found) != 1:
        refuse_joined(dataset)
        raise UserError(f'The pipeline has {len(found)} mmtinyvit.LoadTeacherLogits transforms where exactly one is '
                        'needed.')
    return found[0]


def ignore_stores(dataset: Any) -> None:
    """Let a dataset make views and read no store, for those who look at the views alone."""
    for transform in iter_transforms(dataset):
        if isinstance(transform, LoadTeacherLogits):
            transform.use(mode='online')


def use_store(dataset: Any, cfg: Mapping[str, Any]) -> LoadTeacherLogits:
    """Give the ``LoadTeacherLogits`` of a dataset what its config ``cfg`` names at the top level, and return it.

    ``store``, ``store_weights``, ``store_topk`` and ``mode`` are passed on, so that ``--cfg-options store=...`` works
    with every tool. What the transform was given in the pipeline is kept, with a warning if the config says something
    else; weights belong to the stores that are named beside them, and a config that names no store at its top level may
    use ``mode`` and ``store_weights`` for something of its own. To be called before workers are started.

    Raises:
        UserError: There is not exactly one ``LoadTeacherLogits``, no store is named, or the settings make no sense.
    """
    reader = find_reader(dataset)
    named = {argument: cfg.get(name) for argument, name in SETTINGS.items() if cfg.get(name) is not None}
    if cfg.get('mode') not in MODES and 'store' not in named:
        named = {name: value for name, value in named.items() if name == 'topk'}
    if 'store' in reader.given:
        named.pop('weights', None)
    settings = named | reader.given
    if settings != reader.settings:
        for argument, value in reader.given.items():
            if named.get(argument, value) != value:
                print_log(f'LoadTeacherLogits has {argument}={value!r} in the pipeline, so {SETTINGS[argument]}='
                          f'{named[argument]!r} of the config is not used.', 'current', logging.WARNING)
        reader.use(**settings)
        reader.settings = settings
    reader.require_store()
    return reader


def find_store(dataset: Any, cfg: Mapping[str, Any] | None = None) -> LogitStore:
    """The one store of :func:`use_store`. Raises :class:`UserError` if there are several."""
    stores = use_store(dataset, cfg or {}).stores
    if len(stores) > 1:
        raise UserError(f'The pipeline reads {len(stores)} stores where one is needed: name one as store=.')
    return stores[0]
