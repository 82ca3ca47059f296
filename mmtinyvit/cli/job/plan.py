"""Where a job puts things, and what was decided before it began."""
from pathlib import Path
from typing import NamedTuple

from .images import ImageSet

__all__ = ['Layout', 'Plan']


class Layout(NamedTuple):
    """Where a job puts things, all below one folder."""
    out: Path

    @property
    def configs(self) -> Path:
        return self.out / 'configs'

    @property
    def teacher(self) -> Path:
        return self.configs / 'teacher.py'

    @property
    def student(self) -> Path:
        return self.configs / 'student.py'

    @property
    def finetuned(self) -> Path:
        return self.configs / 'finetune.py'

    @property
    def store(self) -> Path:
        return self.out / 'store'

    def work(self, name: str) -> Path:
        """The work folder of a step."""
        return self.out / 'work' / name


class Plan(NamedTuple):
    """What was decided before anything was saved.

    Attributes:
        num_classes: The teacher's.
        topk: Classes kept per view.
        views: How many.
        size: Side of the views in pixels.
        workers: Loader processes.
        train: Images to distil on.
        val: Images to test on; None if there are no labels that say what the teacher's classes are.
        index: The teacher's class of each class of ``val``; None if they are the same.
        note: What to say about the test.
        store_bytes: Size of the store.
        hours: Time to save it, on one device as the teacher was asked on.
        mean_kl: Nats between what is stored and what the teacher says.
        training_hours: Time for the steps of the training and the finetuning, on one such device.
        finetune_train, finetune_val: Labelled images to finetune and to test on.
    """
    num_classes: int
    topk: int
    views: int
    size: int
    workers: int
    train: ImageSet
    val: ImageSet | None
    index: list[int] | None
    note: str
    store_bytes: int
    hours: float
    mean_kl: float
    training_hours: float = 0.
    finetune_train: ImageSet | None = None
    finetune_val: ImageSet | None = None
