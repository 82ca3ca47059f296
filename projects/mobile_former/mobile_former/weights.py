"""How Mobile-Former starts: the original's random weights, or a checkpoint."""
import math

from mmengine.logging import print_log
from torch import nn

from mmtinyvit.models.checkpoints import read_state_dict
from mmtinyvit.models.weights import fill_module

__all__ = ['fill_backbone', 'initialise']


def initialise(model: nn.Module) -> None:
    """The original's: He's normal over a convolution's outputs, whatever its groups; std 0.01 for linear layers."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan = math.prod(module.kernel_size) * module.out_channels
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan))
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)


def fill_backbone(backbone: nn.Module, checkpoint: str, prefix: str = '') -> None:
    """Fill a backbone from a checkpoint, all of it.

    Args:
        backbone: A ``MobileFormer``. What only a deeper or classifying one has is left out of the checkpoint.
        checkpoint: File or URL.
        prefix: Where the backbone lies in it, such as ``'backbone.'`` for a classifier.

    Raises:
        UserError: Tensors are missing or of another shape; names them.
    """
    prefix = prefix if not prefix or prefix.endswith('.') else f'{prefix}.'
    parts = {name.split('.')[0] for name in backbone.state_dict()}
    deepest = len(backbone.blocks)
    found = {}
    for key, value in read_state_dict(checkpoint).items():
        name = key.removeprefix(prefix).split('.')
        behind = name[0] == 'last_bridge' and name[0] not in parts or name[0] == 'blocks' and int(name[1]) >= deepest
        if key.startswith(prefix) and not behind:
            found['.'.join(name)] = value
    filled = fill_module(backbone, found, checkpoint)
    print_log(f'MobileFormer: all {filled} tensors filled from {checkpoint}', logger='current')
