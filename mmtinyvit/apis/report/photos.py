"""The photos of a report: small JPEG files inside the page."""
import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmtinyvit.datasets.view_dataset import ViewDataset
from mmtinyvit.store import LogitStore

__all__ = ['Photos']

SIDE, QUALITY = 224, 85  # pixels of the longer side at most, and of JPEG


class Photos:
    """The images of a dataset as data URIs.

    Args:
        dataset: The dataset with its replaying pipeline.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset, self.views = dataset, ViewDataset(dataset)

    def original(self, index: int) -> str:
        """The image itself, before augmentation, as the first transform loads it."""
        image = self.views.pipeline.transforms[0](dict(self.dataset.get_data_info(index)))['img']
        return encode(image[..., ::-1])  # BGR to RGB

    def view(self, view: int, index: int) -> str:
        """A view, as the teacher saw it."""
        return encode(self.views[view, index]['inputs'].numpy()[::-1].transpose(1, 2, 0))


def encode(pixels: np.ndarray) -> str:
    """Pixels ``(H, W, 3)``, RGB, as a data URI of a JPEG file."""
    image = Image.fromarray(np.ascontiguousarray(pixels).astype(np.uint8))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=QUALITY)
    return f'data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}'


def first_classes(store: LogitStore, views: Sequence[int], position: int) -> list[tuple[int, float]]:
    """The first class of a sample in each view, and its probability."""
    found = []
    for view in views:
        index, log_prob, *_ = store.read_positions(view, [position]).row(0)
        best = int(np.argmax(log_prob))
        found.append((int(index[best]), float(np.exp(log_prob[best]))))
    return found
