"""Images per second of architectures on the target device, measured against the seed's and remembered on disk."""
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from mmtinyvit.apis.timing import compare, machine
from mmtinyvit.errors import UserError

from .architecture import Architecture
from .journal import Journal
from .recipe import Recipe

__all__ = ['Throughput', 'require_device']

TOGETHER = 8  # architectures that take turns with the seed
REPEATS, WARM_UP = 7, 2


def require_device(name: str) -> None:
    """Raises :class:`UserError` if there is no such device here."""
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f'--device {name} is not on this machine: give cpu, cuda or cuda:N, of a device that is '
                        'there.') from error


class Throughput:
    """Measures what is not known yet, a few architectures at a time, and each beside the seed.

    The networks are in eval mode with BatchNorm folded, in float32. Noise of the machine falls out of the ratio to the
    seed in the same round; images per second are the seed's, times the ratio.

    Args:
        recipe: Of the seed.
        file: That remembers; lines of another machine or setting are passed over.
        device: Where the networks run.
        batch_size: Images at a time.
    """

    def __init__(self, recipe: Recipe, file: Path, device: str, batch_size: int) -> None:
        self.recipe, self.device, self.batch_size = recipe, device, batch_size
        self.journal = Journal(file)
        self.setting = (f'{machine(device)}; on {device}, {batch_size} images of {recipe.size[0]} x {recipe.size[1]}; '
                        f'{recipe.num_classes} classes; against {recipe.seed.name}')
        self.known = {line['name']: line['images_per_s'] for line in self.journal.lines
                      if line.get('setting') == self.setting}

    def of(self, architectures: Sequence[Architecture], count: Callable[[int], None] = lambda _: None) -> list[float]:
        """Images per second of each; ``count`` is told how many more have been measured."""
        wanted = {each.name: each for each in architectures if each.name not in self.known}
        if self.recipe.seed.name not in self.known:
            self._remember({self.recipe.seed.name: self.batch_size / self.compare([self.recipe.seed])[0]['median_s']})
            wanted.pop(self.recipe.seed.name, None)
        seed, left = self.known[self.recipe.seed.name], list(wanted.values())
        while left:
            group, left = left[:TOGETHER], left[TOGETHER:]
            times = self.compare([self.recipe.seed, *group])[1:]
            self._remember({each.name: seed / row['ratio'] for each, row in zip(group, times, strict=True)})
            count(len(group))
        return [self.known[each.name] for each in architectures]

    def _remember(self, found: dict[str, float]) -> None:
        for name, images_per_s in found.items():
            self.journal.append(name=name, images_per_s=round(images_per_s, 3), setting=self.setting)
            self.known[name] = round(images_per_s, 3)

    def compare(self, architectures: Sequence[Architecture], repeats: int = REPEATS) -> list[dict]:
        """Of each architecture, in order, what :func:`.compare` says: against the first, in turns."""
        images = torch.randn(self.batch_size, 3, *self.recipe.size, device=self.device)
        runs = {}
        for each in architectures:
            model = self.recipe.build(each)
            model.eval()
            model.backbone.fuse()
            runs[each.name] = torch.inference_mode()(partial(model.to(self.device), images))
        found = compare(runs, repeats, WARM_UP)
        return [found[each.name] for each in architectures]
