"""The claims of the papers, measured on real photos; `benchmarks/claims.py` runs them."""
