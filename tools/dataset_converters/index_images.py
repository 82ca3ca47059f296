"""List the images of a data set once, so that training starts without scanning 14 million files.

The same as ``mmtinyvit index``.

    python tools/dataset_converters/index_images.py data/imagenet21k                   # folders, or n01440764.tar ...
    python tools/dataset_converters/index_images.py data/winter21_whole.tar --check    # tars in a tar, all decoded once
    python tools/dataset_converters/index_images.py s3://bucket/shards --out shards.index         # WebDataset shards

The index, by default DATA_ROOT/images.index or ARCHIVE.index, is what mmtinyvit.IndexedImages reads; docs/en/data.md
has all layouts.
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.index import ON_INTERRUPT, main

if __name__ == '__main__':
    run_command(main, ON_INTERRUPT)
