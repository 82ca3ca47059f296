"""What every config shares: mmpretrain's runtime, with seeds that reach everything outside the replayed views too."""
_base_ = 'mmpretrain::_base_/default_runtime.py'

randomness = dict(seed=0, deterministic=False)
