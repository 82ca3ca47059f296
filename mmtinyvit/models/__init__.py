"""Models: backbones, heads, losses, classifiers and data preprocessors."""
from .backbones import *  # noqa: F401,F403
