"""ViewsAtOnce: several views of an image that is read and decoded once."""
import copy
from collections.abc import Sequence

from torch.utils.data import Dataset

from mmtinyvit.errors import UserError

from .seeded_augment import SeededAugment
from .view_dataset import ViewDataset

__all__ = ['ViewsAtOnce']


class ViewsAtOnce(Dataset):
    """A ``ViewDataset`` whose items are named ``(views, index)``: the same views, as a list.

    What stands before ``SeededAugment`` in the pipeline runs once for all of them; the rest gets a copy for each.

    Args:
        viewed: The dataset of single views.
    """

    def __init__(self, viewed: ViewDataset) -> None:
        self.viewed = viewed

    def __len__(self) -> int:
        return len(self.viewed)

    def __getitem__(self, name: tuple[Sequence[int], int]) -> list[dict]:
        views, index = name
        if len(views) == 1:
            return [self.viewed[views[0], index]]
        before, after = self._halves()
        loaded = self.viewed.checked(_run(before, self.viewed.dataset.get_data_info(index)), index)
        return [self.viewed.checked(_run(after, copy.deepcopy(loaded) | dict(view=view)), index) for view in views]

    def _halves(self) -> tuple[Sequence, Sequence]:
        transforms = self.viewed.dataset.pipeline.transforms
        found = [i for i, transform in enumerate(transforms) if isinstance(transform, SeededAugment)]
        if len(found) != 1:
            raise UserError('Several views at once need mmtinyvit.SeededAugment as one step of the pipeline, not '
                            'inside another transform: take it out, or set views_at_once=1.')
        return transforms[:found[0]], transforms[found[0]:]


def _run(transforms: Sequence, results: dict | None) -> dict | None:
    for transform in transforms:
        if results is None:
            break
        results = transform(results)
    return results
