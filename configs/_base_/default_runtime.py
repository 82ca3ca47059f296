"""What every config shares: mmpretrain's runtime, with seeds that reach everything outside the replayed views too.

A run on the CPU keeps its memory from step to step, which a step on fresh pages would wait for.
"""
_base_ = 'mmpretrain::_base_/default_runtime.py'

randomness = dict(seed=0, deterministic=False)
default_hooks = dict(host_memory=dict(type='mmtinyvit.HostMemoryHook'))
