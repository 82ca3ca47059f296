"""Data preprocessors: normalisation and replayed mixing, on the device."""
from .replay import ReplayDataPreprocessor, SeededMixing

__all__ = ['ReplayDataPreprocessor', 'SeededMixing']
