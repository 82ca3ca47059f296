"""Layer-wise decay of the learning rate, for classifiers and detectors alike."""
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmtinyvit.errors import UserError
from mmtinyvit.registry import OPTIM_WRAPPER_CONSTRUCTORS

__all__ = ['LayerDecayOptimWrapperConstructor', 'backbones_by_prefix']


def backbones_by_prefix(model: nn.Module) -> dict[str, nn.Module]:
    """The backbones in a model that know the depth of their parameters, by the prefix of the parameters' names.

    A classifier of mmpretrain has ``get_layer_depth`` too, which asks its backbone: the innermost modules count.

    Returns:
        dict: ``{'backbone.': ...}`` for classifiers and detectors, ``{'': model}`` for a bare backbone, perhaps empty.
    """
    found = {f'{name}.' if name else '': module for name, module in model.named_modules()
             if hasattr(module, 'get_layer_depth')}
    return {prefix: module for prefix, module in found.items()
            if not any(other != prefix and other.startswith(prefix) for other in found)}


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

        Args:
            params: Filled in place. Each group has ``lr``, ``lr_scale`` (its share of the full rate by depth) and
                ``param_names``.
            module: The model; below it MMEngine's own method recurses.
            prefix: Name of ``module`` in the model.

        Raises:
            UserError: No part of the model has ``get_layer_depth``, or nothing in it is to be trained.
        """
        if prefix:
            super().add_params(params, module, prefix, **kwargs)
            return
        backbones = backbones_by_prefix(module)
        if not backbones:
            raise UserError(f'Layer-wise decay needs a backbone with get_layer_depth, which {type(module).__name__} '
                            'does not have: use mmtinyvit.TinyViT or a backbone of mmpretrain that has it, or leave '
                            'the constructor out.')
        single: list[dict] = []
        super().add_params(single, module, '', **kwargs)
        if not single:
            raise UserError(f'{type(module).__name__} has no parameter to train: its frozen_stages freeze all of it.')
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        groups: dict[str, dict] = {}
        for settings in single:
            (parameter, ) = settings.pop('params')
            name = names[id(parameter)]
            scale = self._scale(backbones, name)
            settings['lr'] = settings.get('lr', self.base_lr) * scale
            settings['lr_scale'] = scale
            settings = {key: value for key, value in settings.items() if key not in ('lr_mult', 'decay_mult')}
            group = groups.setdefault(repr(sorted(settings.items())), dict(params=[], param_names=[], **settings))
            group['params'].append(parameter)
            group['param_names'].append(name)
        params.extend(groups.values())
        shares = sorted({group['lr_scale'] for group in params})
        print_log(f'Layer-wise decay {self.paramwise_cfg["layer_decay_rate"]}: {len(single)} parameters in '
                  f'{len(params)} groups, from {shares[0]:.3g} to {shares[-1]:.3g} of the rate', logger='current')

    def _scale(self, backbones: dict[str, nn.Module], name: str) -> float:
        for prefix, backbone in backbones.items():
            if name.startswith(prefix):
                depth, num_depths = backbone.get_layer_depth(name, prefix)
                return self.paramwise_cfg['layer_decay_rate']**(num_depths - 1 - depth)
        return 1.
