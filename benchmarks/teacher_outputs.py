"""What teachers say: made-up distributions, and a real MobileNetV2 on real photos."""
import os
from pathlib import Path

import numpy as np

__all__ = ['real_outputs', 'sparsify', 'synthetic_outputs']


def synthetic_outputs(num_classes: int, scale: float, num: int = 400) -> np.ndarray:
    """``(num, C)`` float32 log-probabilities of normal logits of standard deviation ``scale``: 1 is flat, 8 peaked."""
    logits = np.random.default_rng(0).normal(size=(num, num_classes)) * scale
    return _log_softmax(logits)


def real_outputs(num: int = 1000) -> np.ndarray | None:
    """``(num, 1000)`` float32 log-probabilities for photos of all ImageNet-1K classes; None without MMTINYVIT_DATA."""
    data = os.environ.get('MMTINYVIT_DATA')
    if not data:
        return None
    import timm
    import torch
    from PIL import Image
    model = timm.create_model('mobilenetv2_100', pad_type='same')
    model.load_state_dict(torch.load(Path(data, 'teacher_mobilenetv2/tf2_mobilenet_v2_1_0_224_ptq_timm.pth'),
                                     weights_only=True))
    model.eval()
    files = sorted(Path(data, 'imagenet_sample/val').glob('*/*'))[:num]
    logits = []
    with torch.inference_mode():
        for start in range(0, len(files), 50):
            images = [np.asarray(Image.open(file).convert('RGB').resize((224, 224)))
                      for file in files[start:start + 50]]
            batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().sub(127.5).div(127.5)
            logits.append(model(batch).double().numpy())
    return _log_softmax(np.concatenate(logits))


def sparsify(log_prob: np.ndarray, topk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index, log-probability (descending) and tail mass of the top K."""
    index = np.argsort(-log_prob, axis=1, kind='stable')[:, :topk]
    top = np.take_along_axis(log_prob, index, 1)
    tail = np.clip(1 - np.exp(top.astype(np.float64)).sum(axis=1), 0, 1)
    return index, top, tail.astype(np.float32)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(axis=1, keepdims=True)
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
