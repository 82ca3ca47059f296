"""What the ambient generators hold, saved and put back at a few microseconds.

The public functions make an object of each of 624 words. Where an image has just passed through the caches, that takes
as long as all the rest of a scope, so these look at the words where they lie.
"""
import ctypes
import random
import struct

import numpy as np
from numpy.random import MT19937, BitGenerator

__all__ = ['PythonState', 'WaitingPair']

_WORDS = 624
_WORD_BYTES = 4


class PythonState:
    """The state of ``random``.

    Args:
        generator: By default the one behind the functions of the module.
    """

    def __init__(self, generator: random.Random | None = None) -> None:
        self._generator = generator or random.getstate.__self__
        self._memory = _find_words(self._generator)

    def save(self) -> tuple:
        """Whatever :meth:`restore` needs."""
        if self._memory is None:
            return self._generator.getstate()
        return self._memory.raw, self._generator.gauss_next

    def restore(self, state: tuple) -> None:
        """Puts back what :meth:`save` returned."""
        if self._memory is None:
            self._generator.setstate(state)
        else:
            self._memory.raw, self._generator.gauss_next = state


def _find_words(generator: random.Random) -> ctypes.Array | None:
    """The words and the position in them, in the generator's own memory; None if this Python keeps them otherwise."""
    *words, position = generator.getstate()[1]
    memory, state = ctypes.string_at(id(generator), generator.__sizeof__()), struct.pack('625I', position, *words)
    place = memory.find(state)
    return None if place < 0 else (ctypes.c_char * len(state)).from_address(id(generator) + place)


class WaitingPair:
    """The second Gaussian number of a pair, which NumPy's legacy generator drops when its bit generator is changed.

    Only ``get_state`` shows whether one waits, and for a Mersenne Twister that is slow. So :meth:`restore` notes how it
    leaves the Twister with none waiting: where nobody drew since, none waits still.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._generator: BitGenerator | None = None
        self._memory: ctypes.Array | None = None
        self._left = b''

    def save(self, generator: BitGenerator) -> dict | None:
        """The whole state of the ambient ``generator``, if the second number of a pair waits in it."""
        if generator is self._generator and self._memory.raw == self._left:
            return None
        state = np.random.get_state(legacy=False)
        return state if state['has_gauss'] else None

    def restore(self, generator: BitGenerator, state: dict | None) -> None:
        """Puts back what :meth:`save` returned, once ``generator`` is the ambient one again."""
        if state is not None or type(generator) is not MT19937:
            self._forget()
            if state is not None:
                np.random.set_state(state)
            return
        if generator is not self._generator:
            # The last words and the position: every draw moves the position, and a turn changes all words.
            few = 8
            address = generator.ctypes.state_address + _WORD_BYTES * (_WORDS - few)
            self._generator, self._memory = generator, (ctypes.c_char * (_WORD_BYTES * (few + 1))).from_address(address)
        self._left = self._memory.raw
