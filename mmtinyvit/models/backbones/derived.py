"""What is computed from a constant parameter once rather than at every call."""
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

__all__ = ['Derived']


class Derived:
    """Tensors made from a parameter, without gradients; made anew when the parameter has changed.

    Copies and pickles of it are empty.
    """

    def __init__(self) -> None:
        self._held: dict[Hashable, tuple[Tensor, int, Tensor]] = {}

    def get(self, key: Hashable, source: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """What ``make()`` gave for ``key`` since ``source`` last changed."""
        if source.is_inference():
            return make()  # nobody counts its changes
        held, version, made = self._held.get(key, (None, None, None))
        if held is None or held.data_ptr() != source.data_ptr() or version != source._version:
            # a normal tensor even in inference mode, because training with frozen stages may meet it later
            with torch.inference_mode(False), torch.no_grad():
                made = make()
            # the reference to the source keeps its memory from being reused, so that the address identifies it
            self._held[key] = source.detach(), source._version, made
        return made

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()

    def __reduce__(self):
        return Derived, ()
