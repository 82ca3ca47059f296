"""Models: backbones, losses, classifiers, pretraining and data preprocessors."""
from .backbones import *  # noqa: F403
from .classifiers import *  # noqa: F403
from .data_preprocessors import *  # noqa: F403
from .losses import *  # noqa: F403
from .selfsup import *  # noqa: F403
