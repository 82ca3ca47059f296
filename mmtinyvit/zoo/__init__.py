"""Published checkpoints: what there is, and how it gets here."""
