"""How large the parts of gpu.py are: on a GPU what users train with, on a CPU the same in small."""
from typing import NamedTuple

__all__ = ['SETTINGS', 'Settings']


class Settings(NamedTuple):
    """Sizes.

    Attributes:
        device: ``'cuda'`` or ``'cpu'``.
        archs: Of TinyViT, to be timed.
        batches: Images in a batch, by the side of an image in pixels.
        side: Images that are compared with the CPU's are at most so many pixels wide.
        networks: How many of the networks are compared with the CPU; None takes all.
        loss: Rows, classes and entries of a record.
        teacher: Of timm; what saves.
        views: In a shard that is saved.
        photos: That a training reads in an epoch.
        batch_size: Of that training.
        workers: Of its loader.
        repeats: Rounds of each timing.
        compiled: Whether ``torch.compile`` is timed; on a CPU it takes minutes.
        out: The file of the tables.
    """
    device: str
    archs: tuple[str, ...]
    batches: dict[int, tuple[int, ...]]
    side: int
    networks: int | None
    loss: tuple[int, int, int]
    teacher: str
    views: int
    photos: int
    batch_size: int
    workers: int
    repeats: int
    compiled: bool
    out: str = 'gpu.json'


SETTINGS = {
    'cuda': Settings('cuda', ('5m', '21m'), {224: (64, 256, 1024), 512: (64, )}, 512, None, (1024, 21_841, 100),
                     'vit_large_patch14_clip_224', 4096, 4096, 512, 14, 9, True),
    'cpu': Settings('cpu', ('5m', ), {64: (2, )}, 64, 1, (16, 1000, 10), 'test_vit', 64, 16, 8, 0, 2, False),
}
