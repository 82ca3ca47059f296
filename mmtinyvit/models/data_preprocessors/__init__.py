"""Data preprocessors: normalisation and replayed mixing, on the device."""
from .renormalise import Renormalise
from .replay import ReplayDataPreprocessor, SeededMixing

__all__ = ['Renormalise', 'ReplayDataPreprocessor', 'SeededMixing']
