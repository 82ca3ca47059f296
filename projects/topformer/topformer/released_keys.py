"""How the released checkpoints (https://github.com/hustvl/TopFormer) name their tensors, and how this code does."""
import re
from collections.abc import Mapping
from typing import Any

__all__ = ['rename_backbone', 'rename_head']

RULES = (  # pattern of the release, and the module here
    (r'tpm\.stem\.0\.', 'pyramid.stem.'),
    (r'trans\.transformer_blocks\.(\d+)\.attn\.to_q\.', r'semantics.\1.attn.query.'),
    (r'trans\.transformer_blocks\.(\d+)\.attn\.to_k\.', r'semantics.\1.attn.key.'),
    (r'trans\.transformer_blocks\.(\d+)\.attn\.to_v\.', r'semantics.\1.attn.value.'),
    (r'trans\.transformer_blocks\.(\d+)\.attn\.proj\.1\.', r'semantics.\1.attn.project.'),
    (r'trans\.transformer_blocks\.(\d+)\.mlp\.(fc\d)\.', r'semantics.\1.ffn.\2.'),
    (r'trans\.transformer_blocks\.(\d+)\.mlp\.dwconv\.', r'semantics.\1.ffn.depthwise.'),
)
INJECTION = dict(local_embedding='local', global_embedding='semantics', global_act='gate')


def rename_backbone(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a backbone under the names used here; unknown names stay as they are.

    Args:
        state_dict: Without a prefix, in either naming.
    """
    return {_rename(key): value for key, value in state_dict.items()}


def rename_head(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Likewise for the head of a segmenter."""
    return {re.sub(r'^linear_fuse\.', 'fuse.', key): value for key, value in state_dict.items()}


def _rename(key: str) -> str:
    if found := re.match(r'tpm\.layer(\d+)\.conv\.([024])\.', key):
        number, position = int(found[1]) - 1, int(found[2])
        # convolutions and activations take turns; the first block does not expand
        part = ('depthwise', 'project')[position // 2] if number == 0 else (
            'expand', 'depthwise', 'project')[position // 2]
        module = f'pyramid.blocks.{number}.{part}.'
    elif found := re.match(rf'SIM\.(\d)\.({"|".join(INJECTION)})\.', key):
        module = f'injections.{int(found[1]) - 1}.{INJECTION[found[2]]}.'  # the first, at stride 4, is empty
    else:
        for pattern, replacement in RULES:
            if found := re.match(pattern, key):
                module = found.expand(replacement)
                break
        else:
            return key
    rest = key[found.end():]
    return module + re.sub(r'^c\.', 'conv.', rest)
