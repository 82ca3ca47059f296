"""What becomes of a CPU's memory between two training steps."""
import ctypes

__all__ = ['keep_host_memory']

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of mallopt, from glibc's malloc.h
NEVER = -1


def keep_host_memory() -> bool:
    """Keep what tensors on the CPU give back for the next ones, as PyTorch does on a GPU.

    By default glibc returns much of it to the system at the end of each step, and the next step gets the same memory as
    fresh pages, whose first touch costs more than norms and activations do. The process then stays as large as its
    largest step and the gaps between its tensors, which the first steps may add to. Any process may call this, at any
    time; there is no way back.

    Returns:
        Whether the C library can do so: only glibc, the one of most Linux distributions.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return bool(mallopt(TRIM_THRESHOLD, NEVER)) and bool(mallopt(MMAP_MAX, 0))
