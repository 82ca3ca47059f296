"""Layer-wise decay of the learning rate, for classifiers and detectors alike."""
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import OPTIM_WRAPPER_CONSTRUCTORS

__all__ = ['LayerDecayOptimWrapperConstructor']


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's ``DefaultOptimWrapperConstructor``, and a learning rate that falls towards the image.

    A parameter at depth i of D is trained with ``layer_decay_rate ** (D - 1 - i)`` of the rate, where its backbone says
    what i and D are: any backbone with ``get_layer_depth(param_name, prefix)``, that is :class:`.TinyViT` and those of
    mmpretrain that support layer-wise decay. What lies behind the backbone (head, neck, RPN, RoI heads) has the full
    rate. mmpretrain's own constructor asks the whole model and so serves classifiers only, mmdet's knows ConvNeXt only.

    Args:
        optim_wrapper_cfg: As for MMEngine's.
        paramwise_cfg: As for MMEngine's, with all of its keys, and ``layer_decay_rate`` in (0, 1], which is required.
            ``lr_mult`` of ``custom_keys`` and ``bias_lr_mult`` multiply the decayed rate.

    Example:
        >>> optim_wrapper = dict(
        ...     optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
        ...     constructor='mmtinyvit.LayerDecayOptimWrapperConstructor',
        ...     paramwise_cfg=dict(layer_decay_rate=0.8, bias_decay_mult=0., norm_decay_mult=0.))
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise UserError(f'LayerDecayOptimWrapperConstructor needs a layer_decay_rate in (0, 1] in its '
                            f'paramwise_cfg, but got {rate}.')
        if self.base_lr is None:
            raise UserError('LayerDecayOptimWrapperConstructor needs the rate to decay: set lr of the optimizer.')

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs) -> None:
        """Fill ``params`` with groups, one for each combination of rate, weight decay and other settings.

        Each group has ``lr``, ``lr_scale`` (its share of the full rate by depth) and ``param_names``. MMEngine's method
        makes a group per parameter.

        Raises:
            UserError: No part of the model has ``get_layer_depth``, or nothing in it is to be trained.
        """
        if prefix:
            super().add_params(params, module, prefix, **kwargs)
            return
        # a classifier of mmpretrain has get_layer_depth too, which asks its backbone: the innermost modules count
        found = {f'{name}.' if name else '': part for name, part in module.named_modules()
                 if hasattr(part, 'get_layer_depth')}
        backbones = {prefix: part for prefix, part in found.items()
                     if not any(other != prefix and other.startswith(prefix) for other in found)}
        if not backbones:
            raise UserError(f'Layer-wise decay needs a backbone with get_layer_depth, which {type(module).__name__} '
                            'does not have: use mmtinyvit.TinyViT or a backbone of mmpretrain that has it, or leave '
                            'the constructor out.')
        single: list[dict] = []
        super().add_params(single, module, '', **kwargs)
        if not single:
            raise UserError(f'{type(module).__name__} has no parameter to train: its frozen_stages freeze all of it.')
        rate = self.paramwise_cfg['layer_decay_rate']
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        groups: dict[str, dict] = {}
        for settings in single:
            (parameter, ) = settings.pop('params')
            name, scale = names[id(parameter)], 1.
            for prefix, backbone in backbones.items():
                if name.startswith(prefix):
                    depth, num_depths = backbone.get_layer_depth(name, prefix)
                    scale = rate**(num_depths - 1 - depth)
            settings = {key: value for key, value in settings.items() if key not in ('lr_mult', 'decay_mult')}
            settings |= dict(lr=settings.get('lr', self.base_lr) * scale, lr_scale=scale)
            group = groups.setdefault(repr(sorted(settings.items())), dict(params=[], param_names=[], **settings))
            group['params'].append(parameter)
            group['param_names'].append(name)
        params.extend(groups.values())
        shares = [group['lr_scale'] for group in params]
        print_log(f'Layer-wise decay {rate}: {len(single)} parameters in {len(params)} groups, from {min(shares):.3g} '
                  f'to {max(shares):.3g} of the rate', logger='current')
