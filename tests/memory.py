"""How much memory a function takes, as the profiler of PyTorch counts it."""
import gc
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

__all__ = ['peak_bytes']


def peak_bytes(function: Callable[[], object]) -> int:
    """Most tensor memory that ``function`` held at once on a CPU, in bytes, beyond what was allocated before it."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as recorded:
        function()
    held = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak
