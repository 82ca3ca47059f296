"""A teacher that writes down which process asks it, and can hold the first of two until the other works too."""
import os
import time
from collections import Counter
from pathlib import Path

from mmengine.registry import MODELS
from mmpretrain.models import ImageClassifier


@MODELS.register_module()
class WatchedClassifier(ImageClassifier):
    """Each call adds the process to the file ``WATCHED``.

    While there is a file ``hold`` beside it, a process that calls for the second time waits for another one to do so.
    """

    def extract_feat(self, *args, **kwargs):
        if 'WATCHED' in os.environ:
            path = Path(os.environ['WATCHED'])
            with open(path, 'a') as file:
                file.write(f'{os.getpid()}\n')
            while path.with_name('hold').exists() and os.getpid() in at_work(path) and len(at_work(path)) < 2:
                time.sleep(0.02)
            time.sleep(0.02)
        return super().extract_feat(*args, **kwargs)


def at_work(path: Path) -> list[int]:
    """The processes that have called twice: once to try the pipeline, and then for a unit."""
    calls = Counter(path.read_text().split() if path.exists() else ())
    return [int(process) for process, number in calls.items() if number > 1]
