"""The sizes of TinyViT: what a name stands for, and which lists make sense."""
from collections.abc import Sequence

from mmtinyvit.errors import UserError

__all__ = ['resolve_arch', 'resolve_out_indices']

ARCHS = {
    '5m': dict(embed_dims=(64, 128, 160, 320), num_heads=(2, 4, 5, 10)),
    '11m': dict(embed_dims=(64, 128, 256, 448), num_heads=(2, 4, 8, 14)),
    '21m': dict(embed_dims=(96, 192, 384, 576), num_heads=(3, 6, 12, 18)),
}
DEPTHS = (2, 2, 6, 2)
WINDOW_SIZES = (7, 7, 14, 7)


def resolve_arch(arch: str | dict, window_sizes: Sequence[int] | None) -> dict[str, tuple[int, ...]]:
    """The lists of an architecture, from its name or a dict, as :class:`TinyViT` describes them.

    Raises:
        UserError: If they make no sense.
    """
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise UserError(f'TinyViT has no arch {arch!r}: choose one of {", ".join(ARCHS)}, or pass a dict.')
        arch = ARCHS[arch]
    missing = {'embed_dims', 'num_heads'} - arch.keys()
    if missing:
        raise UserError(f'The arch dict of TinyViT lacks {", ".join(sorted(missing))}.')
    arch = {'depths': DEPTHS, 'window_sizes': WINDOW_SIZES, **arch}
    if window_sizes is not None:
        arch['window_sizes'] = window_sizes
    arch = {name: tuple(values) for name, values in arch.items()}
    if len({len(values) for values in arch.values()}) != 1:
        raise UserError(f'TinyViT needs one entry per stage in each of its lists, but got {arch}.')
    if any(dim % heads for dim, heads in zip(arch['embed_dims'], arch['num_heads'], strict=True)):
        raise UserError(f'In TinyViT each of embed_dims={arch["embed_dims"]} must be a multiple of its '
                        f'num_heads={arch["num_heads"]}.')
    return arch


def resolve_out_indices(out_indices: int | Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Indices of stages counted from 0, in the order given.

    Raises:
        UserError: If one of them is no stage.
    """
    indices = [out_indices] if isinstance(out_indices, int) else out_indices
    resolved = tuple(i + num_stages if i < 0 else i for i in indices)
    if not resolved or any(not 0 <= i < num_stages for i in resolved):
        raise UserError(f'out_indices={out_indices} of TinyViT must name some of its {num_stages} stages.')
    return resolved
