"""A teacher's outputs and identity."""
import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from mmtinyvit.datasets.identity import plain_json

__all__ = ['sparsify', 'teacher_identity']


def sparsify(logits: Tensor, topk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The top K classes of a batch and the mass of all others.

    Args:
        logits: ``(B, C)``, any float type; the softmax is computed in float32 on the logits' device.
        topk: K.

    Returns:
        tuple: Index ``(B, K)`` int32, log-probability ``(B, K)`` float32 and tail mass ``(B,)`` float32, on the host.
    """
    log_prob, index = logits.float().log_softmax(1).topk(topk, dim=1)
    tail = (1 - log_prob.exp().sum(1)).clamp_(min=0) if topk < logits.shape[1] else log_prob.new_zeros(len(logits))
    return index.int().cpu().numpy(), log_prob.cpu().numpy(), tail.cpu().numpy()


def teacher_identity(model: nn.Module, config: dict, amp: bool) -> dict:
    """What a teacher is: its config and the hash of its weights.

    Returns:
        dict: ``name``, ``config``, ``weights_hash`` over the names, shapes and bytes of the state dict,
        ``preprocessor`` and ``precision``, as plain JSON; of an ensemble, a list of preprocessors.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(f'{name} {tuple(array.shape)} {array.dtype}\n'.encode())
        digest.update(array.view(-1).view(torch.uint8).numpy())
    config = _without_weights(plain_json(config))
    members = list(getattr(model, 'teachers', [])) or [model]
    configs = config.get('teachers', [config])
    name = ' + '.join(c.get('model_name') or c.get('backbone', {}).get('type') or type(m).__name__
                      for c, m in zip(configs, members, strict=True))
    preprocessors = [_preprocessing(member.data_preprocessor) for member in members]
    return dict(name=name, config=config, weights_hash=digest.hexdigest(),
                preprocessor=preprocessors if 'teachers' in config else preprocessors[0],
                precision='autocast' if amp else 'float32')


def _without_weights(config: dict) -> dict:
    """A model's config without where its weights come from, and without what is listed as its preprocessor."""
    left_out = ('init_cfg', 'data_preprocessor', 'pretrained', 'checkpoint')
    config = {name: value for name, value in config.items() if name not in left_out}
    if 'teachers' in config:  # an ensemble
        config['teachers'] = [_without_weights(member) for member in config['teachers']]
    return config


def _preprocessing(preprocessor: nn.Module) -> dict:
    """How pixels are normalised and resized, as plain JSON."""
    found = {k: getattr(preprocessor, k).flatten().tolist() for k in ('mean', 'std') if hasattr(preprocessor, k)}
    return dict(found, to_rgb=bool(getattr(preprocessor, 'to_rgb', False)),
                input_size=getattr(preprocessor, 'input_size', None))
