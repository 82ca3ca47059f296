"""The transforms of a view, one by one: what each takes, and what those take that it stands in for."""
import statistics
import time
from typing import Any

from mmpretrain.registry import TRANSFORMS

from mmtinyvit.datasets import derive_seed, rng_scope

__all__ = ['time_policies', 'time_replaced', 'time_transforms']


def time_transforms(loader: Any, files: list[str]) -> None:
    """Each wrapped transform by itself."""
    for number, file in enumerate(files):
        view = loader.decode(dict(img_path=file, sample_key=str(number), view=0))
        with rng_scope(derive_seed(loader.augment.base_seed, 0, str(number))):
            for transform in loader.augment.transforms:
                view = loader.time(f'- {type(transform).__name__}', transform, view)


def time_policies(loader: Any, files: list[str]) -> dict[str, dict]:
    """The operations of RandAugment that take longest, each tried on every crop; most apply to half of them."""
    crop, augment = (next(t for t in loader.augment.transforms if type(t).__name__ == name)
                     for name in ('RandomResizedCrop', 'RandAugment'))
    views = [crop(loader.decode(dict(img_path=file))) for file in files]
    policies = {policy['type']: TRANSFORMS.build(policy) for policy in augment.policies}
    seconds: dict[str, float] = {}
    with rng_scope(0):
        for name, policy in policies.items():
            copies = [dict(view, img=view['img'].copy()) for view in views]
            start = time.thread_time()
            for view in copies:
                policy(view)
            seconds[name] = (time.thread_time() - start) / len(views)
    return {name: {'mean_s': seconds[name]} for name in sorted(seconds, key=seconds.get, reverse=True)[:6]}


def time_replaced(loader: Any, files: list[str], rounds: int = 3) -> dict[str, dict]:
    """The transforms that stand in for mmpretrain's, against those, on the same random numbers."""
    seconds: dict[str, list[float]] = {}
    for config, ours in zip(loader.augment.transforms_cfg, loader.augment.transforms, strict=True):
        name = config['type'].removeprefix('mmtinyvit.')
        if name == config['type']:
            continue
        pillow = dict(backend='pillow', interpolation='bicubic') if name == 'RandomResizedCrop' else {}
        pair = {'': ours, ', theirs': TRANSFORMS.build(config | pillow | dict(type=name))}
        for number, file in enumerate(files * rounds):
            decoded = loader.decode(dict(img_path=file))
            view = decoded if name == 'RandomResizedCrop' else loader.augment.transforms[0](decoded)
            for which, transform in list(pair.items())[::1 - 2 * (number % 2)]:
                with rng_scope(number):
                    start = time.thread_time()
                    transform(dict(view, img=view['img'].copy()))
                    seconds.setdefault(name + which, []).append(time.thread_time() - start)
    return {name: {'mean_s': statistics.fmean(values)} for name, values in sorted(seconds.items())}
