"""What teachers say: made-up distributions, and real teachers on real photos and views of them."""
import os
from pathlib import Path

import numpy as np

from mmtinyvit.store import Record

__all__ = [
    'correlated_views', 'real_outputs', 'real_views', 'shared_classes', 'sparsify', 'synthetic_outputs',
    'synthetic_views'
]


def synthetic_outputs(num_classes: int, scale: float, num: int = 400) -> np.ndarray:
    """``(num, C)`` float32 log-probabilities of normal logits of standard deviation ``scale``: 1 is flat, 8 peaked."""
    logits = np.random.default_rng(0).normal(size=(num, num_classes)) * scale
    return _log_softmax(logits)


def synthetic_views(num_classes: int, scale: float, topk: int, shared: float,
                    num: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Two such outputs ``(num, C)`` whose logits correlate as much as it takes to share ``shared`` of the top K."""
    first, noise = (np.random.default_rng(seed).normal(size=(num, num_classes)) for seed in (0, 1))
    low, high = 0.0, 1.0
    for _ in range(7):
        middle = (low + high) / 2
        second = middle * first + np.sqrt(1 - middle**2) * noise
        if shared_classes(first, second, topk) < shared:
            low = middle
        else:
            high = middle
    return _log_softmax(first * scale), _log_softmax(second * scale)


def correlated_views(num_classes: int, scale: float, topk: int, shared: float, views: int,
                     num: int) -> list[np.ndarray]:
    """Many such views ``(num, C)``, any two of which share ``shared`` of the top K."""
    base = np.random.default_rng(0).normal(size=(num, num_classes))

    def view(seed: int, correlation: float) -> np.ndarray:
        noise = np.random.default_rng((1, seed)).normal(size=base.shape)
        return np.sqrt(correlation) * base + np.sqrt(1 - correlation) * noise

    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        if shared_classes(view(0, middle), view(1, middle), topk) < shared:
            low = middle
        else:
            high = middle
    return [_log_softmax(view(seed, high) * scale) for seed in range(views)]


def shared_classes(first: np.ndarray, second: np.ndarray, topk: int) -> float:
    """How many of the K largest of each row two arrays ``(n, C)`` share, on average, over K."""
    tops = [np.zeros(first.shape, bool), np.zeros(first.shape, bool)]
    for top, values in zip(tops, (first, second), strict=True):
        np.put_along_axis(top, np.argpartition(-values, topk - 1, axis=1)[:, :topk], True, axis=1)
    return float((tops[0] & tops[1]).sum(axis=1).mean() / topk)


def real_views(least_area: float, num: int = 200, photos: str = 'imagenet_sample/val',
               teacher: str = 'MobileNetV2') -> tuple[np.ndarray, np.ndarray] | None:
    """As :func:`real_outputs`, of two seeded views of each photo: a crop of at least that area, a flip, colours."""
    data = os.environ.get('MMTINYVIT_DATA')
    if not data:
        return None
    import torch
    from PIL import Image
    from torchvision import transforms

    from mmtinyvit.datasets import derive_seed, rng_scope
    augment = transforms.Compose([
        transforms.RandomResizedCrop(224, (least_area, 1.0), interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.RandomHorizontalFlip(), transforms.ColorJitter(0.3, 0.3, 0.3)])
    model = _teacher(data, teacher)
    files, views = sorted(Path(data, photos).glob('*/*')), []
    for view in (0, 1):
        logits = []
        for file in files[::max(1, len(files) // num)][:num]:
            with rng_scope(derive_seed(0, view, file.name)), torch.inference_mode():
                image = np.asarray(augment(Image.open(file).convert('RGB')))
                batch = torch.from_numpy(image[None].copy()).permute(0, 3, 1, 2).float().sub(127.5).div(127.5)
                logits.append(model(batch).double().numpy())
        views.append(_log_softmax(np.concatenate(logits)))
    return views[0], views[1]


def _teacher(data: str, name: str):
    import timm
    import torch
    model_name, file, options = {
        'MobileNetV2': ('mobilenetv2_100', 'teacher_mobilenetv2/tf2_mobilenet_v2_1_0_224_ptq_timm.pth',
                        dict(pad_type='same')),
        'EfficientNet-Lite2': ('tf_efficientnet_lite2', 'teacher_efficientnet_lite2/efficientnet_lite2_timm.pth', {}),
    }[name]
    model = timm.create_model(model_name, **options)
    model.load_state_dict(torch.load(Path(data, file), weights_only=True))
    return model.eval()


def real_outputs(num: int = 1000) -> np.ndarray | None:
    """``(num, 1000)`` float32 log-probabilities for photos of all ImageNet-1K classes; None without MMTINYVIT_DATA."""
    data = os.environ.get('MMTINYVIT_DATA')
    if not data:
        return None
    import torch
    from PIL import Image
    model = _teacher(data, 'MobileNetV2')
    files = sorted(Path(data, 'imagenet_sample/val').glob('*/*'))[:num]
    logits = []
    with torch.inference_mode():
        for start in range(0, len(files), 50):
            images = [np.asarray(Image.open(file).convert('RGB').resize((224, 224)))
                      for file in files[start:start + 50]]
            batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().sub(127.5).div(127.5)
            logits.append(model(batch).double().numpy())
    return _log_softmax(np.concatenate(logits))


def sparsify(log_prob: np.ndarray, topk: int) -> Record:
    """The top K and the tail mass, log-probabilities descending."""
    index = np.argsort(-log_prob, axis=1, kind='stable')[:, :topk]
    top = np.take_along_axis(log_prob, index, 1)
    tail = np.clip(1 - np.exp(top.astype(np.float64)).sum(axis=1), 0, 1)
    return Record(index, top, tail.astype(np.float32))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(axis=1, keepdims=True)
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
