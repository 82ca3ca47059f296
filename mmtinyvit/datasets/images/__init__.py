"""Images as they lie on disks and in buckets: finding, listing, checking and reading them."""
