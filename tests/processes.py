"""Processes that have the libraries imported already, and none of the threads of the process that starts them."""
import multiprocessing

__all__ = ['CLEAN']

# PyTorch's gradients do not work in a plain fork of a process that has exported or compiled a network.
CLEAN = multiprocessing.get_context('forkserver')
CLEAN.set_forkserver_preload(['mmtinyvit.models', 'tiny_flow', 'tiny_networks'])
