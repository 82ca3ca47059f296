"""Self-supervised pretraining: TinyMIM, its teacher and where both networks are tapped."""
from .tiny_mim import TinyMIM
from .token_teacher import TokenTeacher
from .vit_keys import convert_vit_state_dict

__all__ = ['TinyMIM', 'TokenTeacher', 'convert_vit_state_dict']
