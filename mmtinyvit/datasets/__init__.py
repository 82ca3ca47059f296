"""Data: seeds, the epoch clock, replayed transforms, samplers and datasets."""
