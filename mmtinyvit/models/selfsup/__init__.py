"""Self-supervised pretraining: TinyMIM, its teacher and where both networks are tapped."""
from .tiny_mim import TinyMIM
from .token_teacher import TokenTeacher

__all__ = ['TinyMIM', 'TokenTeacher']
