"""Progressive contraction: a large TinyViT becomes a small one, step by step (Wu et al., TinyViT, section 3.2)."""
