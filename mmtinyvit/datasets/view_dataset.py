"""Samples by the batch, and datasets that are asked for a view by number."""
import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from mmcv.transforms import Compose
from mmengine.dataset import BaseDataset, ClassBalancedDataset, RepeatDataset
from torch.utils.data import Dataset, Subset

from mmtinyvit.errors import UserError

from .views import SeededAugment, iter_transforms, refuse_joined

__all__ = ['ViewDataset', 'ViewsAtOnce', 'find_pipeline', 'load_batch', 'load_sample', 'read_in_batches']

_REPEATING = (RepeatDataset.__getitem__, ClassBalancedDataset.__getitem__)


def find_pipeline(dataset: Any) -> Callable[[dict], dict | None]:
    """The pipeline of a dataset, or of the one that a ``RepeatDataset`` or ``ClassBalancedDataset`` repeats.

    Raises:
        UserError: There is none, or several; says what to use in place of the wrapper.
    """
    inner = dataset
    while not hasattr(inner, 'pipeline') and hasattr(inner, 'dataset') and hasattr(inner, 'get_data_info'):
        inner = inner.dataset
    refuse_joined(inner)
    if isinstance(inner, Subset):
        raise UserError('A torch Subset hides the names of its samples: choose them with indices= of the dataset, or '
                        'with its get_subset().')
    if not callable(getattr(inner, 'get_data_info', None)) or not hasattr(inner, 'pipeline'):
        raise UserError(f'{type(inner).__name__} has no pipeline: use a MMEngine BaseDataset, such as '
                        'mmtinyvit.IndexedImages or mmpretrain.CustomDataset.')
    return inner.pipeline


def load_sample(pipeline: Callable[[dict], dict | None], info: dict) -> dict:
    """A sample, passed through a pipeline. Raises :class:`UserError`, which names it, if that returns None."""
    name = info.get('img_path', f'sample {info.get("sample_idx")}')
    sample = pipeline(info)
    if sample is None:
        raise UserError(f'The pipeline dropped a sample (it returned nothing for {name}): remove the transform that '
                        'returns None, or the image.')
    return sample


def load_batch(dataset: Any, infos: Sequence[dict]) -> list[dict]:
    """The samples of a batch. Each transform that has ``prepare_batch(infos)`` is called first, in order.

    Remote images are fetched at once, because each alone would wait for its answer. Reading a record takes several
    times as long between two images, because they push its code and data out of the processor's caches. So the records
    of a batch are read before its first image.
    """
    prepare_batch(iter_transforms(dataset), infos)
    pipeline = find_pipeline(dataset)
    return [load_sample(pipeline, info) for info in infos]


def prepare_batch(transforms: Iterable[Callable], infos: Sequence[dict]) -> None:
    """Call ``prepare_batch(infos)`` of each transform that has it."""
    for transform in transforms:
        if hasattr(transform, 'prepare_batch'):
            transform.prepare_batch(infos)


def read_in_batches(dataset: Any) -> None:
    """Let a loader ask MMEngine's datasets, too, for the samples of a batch at once, see :func:`load_batch`.

    That goes for a ``BaseDataset``, and for the ``RepeatDataset`` and ``ClassBalancedDataset`` of one that can. A
    dataset that makes its samples in a way of its own is left as it is. To be called before workers are started.
    """
    if hasattr(dataset, '__getitems__'):
        return
    own = type(dataset)
    if own.__getitem__ in _REPEATING:
        read_in_batches(dataset.dataset)
        if hasattr(dataset.dataset, '__getitems__'):
            dataset.__getitems__ = partial(_repeated_batch, dataset)
    elif own.__getitem__ is BaseDataset.__getitem__ and own.prepare_data is BaseDataset.prepare_data:
        dataset.__getitems__ = partial(_plain_batch, dataset)


def _repeated_batch(dataset: Any, indices: Sequence[int]) -> list[dict]:
    dataset.full_init()
    return dataset.dataset.__getitems__([dataset._get_ori_dataset_idx(index) for index in indices])


def _plain_batch(dataset: BaseDataset, indices: Sequence[int]) -> list[dict]:
    dataset.full_init()
    return load_batch(dataset, [dataset.get_data_info(index) for index in indices])


class ViewDataset(Dataset):
    """A MMEngine dataset whose items are ``(view, index)``.

    The view travels with the index through the loader's queue, so a loader may prefetch across views. A sample that
    cannot be loaded is an error that names it; it is never replaced by another one.

    Args:
        dataset: Any MMEngine ``BaseDataset``, also inside a ``RepeatDataset`` or ``ClassBalancedDataset``.
    """

    def __init__(self, dataset: Any) -> None:
        self.pipeline = find_pipeline(dataset)
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
        if len(dataset) == 0:
            raise UserError(f'The dataset {type(dataset).__name__} has no samples: check data_root, split and '
                            'ann_file.')
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: tuple[int, int]) -> dict:
        return load_sample(self.pipeline, self._info(*item))

    def __getitems__(self, items: Sequence[tuple[int, int]]) -> list[dict]:
        """The items of a batch, the same as one by one, which the loader asks for."""
        return load_batch(self.dataset, [self._info(*item) for item in items])

    def _info(self, view: int, index: int) -> dict:
        return dict(self.dataset.get_data_info(index), view=view)


class ViewsAtOnce(Dataset):
    """A :class:`ViewDataset` whose items are ``(views, index)``: the same views, as a list.

    What stands before ``SeededAugment`` in the pipeline runs once for all of them; the rest gets a copy for each.
    """

    def __init__(self, single: ViewDataset) -> None:
        self.single = single

    def __len__(self) -> int:
        return len(self.single)

    def __getitem__(self, item: tuple[Sequence[int], int]) -> list[dict]:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[tuple[Sequence[int], int]]) -> list[list[dict]]:
        """The items of a batch, the same as one by one, which the loader asks for."""
        if all(len(views) == 1 for views, _ in items):
            return [[sample] for sample in self.single.__getitems__([(views[0], index) for views, index in items])]
        transforms = self.single.pipeline.transforms
        found = [i for i, transform in enumerate(transforms) if isinstance(transform, SeededAugment)]
        if len(found) != 1:
            raise UserError('Several views at once need mmtinyvit.SeededAugment as one step of the pipeline, not '
                            'inside another transform: take it out, or set views_at_once=1.')
        before, after = Compose(transforms[:found[0]]), Compose(transforms[found[0]:])
        infos = [self.single.dataset.get_data_info(index) for _, index in items]
        prepare_batch(before.transforms, infos)
        samples = []
        for (views, _), info in zip(items, infos, strict=True):  # one decoded image at a time
            loaded = load_sample(before, info)
            samples.append([load_sample(after, copy.deepcopy(loaded) | dict(view=view)) for view in views])
        return samples
