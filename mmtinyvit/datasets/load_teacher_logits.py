"""LoadTeacherLogits: what the teacher said about this view, out of the store."""
from typing import Any

from mmcv.transforms import BaseTransform
from mmpretrain.datasets import PackInputs

from mmtinyvit.errors import UserError
from mmtinyvit.registry import TRANSFORMS
from mmtinyvit.store import LogitStore

from .clock import iter_transforms
from .seeding import derive_seed

__all__ = ['LoadTeacherLogits', 'PackViewInputs', 'find_store']


@TRANSFORMS.register_module()
class LoadTeacherLogits(BaseTransform):
    """Read one record of a store.

    Required Keys:

    - sample_key (str), view (int), aug_seed (int): As added by ``SeededAugment``.

    Added Keys:

    - teacher_index (np.ndarray): ``(K,)`` int64, classes in ascending order.
    - teacher_log_prob (np.ndarray): ``(K,)`` float32, natural logarithms.
    - teacher_tail_mass (np.ndarray): ``()`` float32, the probability of all other classes together.
    - teacher_partner (np.ndarray): ``()`` uint64, the key hash of the sample that the teacher saw mixed in; only from
      a store that was saved with mixing.

    Args:
        store: Folder of the store.

    Raises:
        UserError: The view's seed is not the store's, or there is no such record (a ``StoreError``, which names store,
            view and key).
    """

    def __init__(self, store: str) -> None:
        self.path = store
        self._store: LogitStore | None = None

    @property
    def store(self) -> LogitStore:
        """The store, opened at the first use in each process."""
        if self._store is None:
            self._store = LogitStore(self.path)
        return self._store

    def transform(self, results: dict) -> dict:
        for name in ('sample_key', 'view', 'aug_seed'):
            if name not in results:
                raise UserError(f"LoadTeacherLogits needs '{name}': put SeededAugment before it in the pipeline.")
        store, key, view = self.store, results['sample_key'], results['view']
        if results['aug_seed'] != derive_seed(store.base_seed, view, key):
            raise UserError(f'View {view} of {key} was augmented with another seed than the store {self.path} holds: '
                            f'set base_seed={store.base_seed} in SeededAugment.')
        record = store.read(view, [key])
        results['teacher_index'] = record.index[0]
        results['teacher_log_prob'] = record.log_prob[0]
        results['teacher_tail_mass'] = record.tail_mass[0]
        if record.partner_hash is not None:
            results['teacher_partner'] = record.partner_hash[0]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(store={self.path!r})'


@TRANSFORMS.register_module()
class PackViewInputs(PackInputs):
    """``mmpretrain.PackInputs`` that keeps the view's name and the teacher's record, where there are any.

    Required Keys:

    - img (np.ndarray): ``(H, W, 3)``.
    - gt_label, sample_key, view, aug_seed, teacher_* (optional).

    Added Keys:

    - inputs (Tensor): ``(3, H, W)``, of the image's type: normalisation comes later, on the device.
    - data_samples (DataSample): The name as metainfo, the record as data.
    """

    VIEW_KEYS = ('sample_key', 'view', 'aug_seed')
    TEACHER_KEYS = ('teacher_index', 'teacher_log_prob', 'teacher_tail_mass', 'teacher_partner')

    def __init__(self, input_key: str = 'img', algorithm_keys: tuple = (),
                 meta_keys: tuple = ('sample_idx', 'img_path')) -> None:
        super().__init__(input_key, (*algorithm_keys, *self.TEACHER_KEYS), (*meta_keys, *self.VIEW_KEYS))


def find_store(dataset: Any) -> LogitStore:
    """The store that a dataset's pipeline reads.

    Raises:
        UserError: There is not exactly one ``LoadTeacherLogits``, or no store (``StoreError``).
    """
    found = [t for t in iter_transforms(dataset) if isinstance(t, LoadTeacherLogits)]
    if len(found) != 1:
        raise UserError(f'The pipeline has {len(found)} mmtinyvit.LoadTeacherLogits transforms where exactly one is '
                        'needed.')
    return found[0].store
