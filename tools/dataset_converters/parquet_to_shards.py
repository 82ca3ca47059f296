"""Convert parquet files with images in them, as Hugging Face's hub has them, into WebDataset's tar shards, once.

The same as ``mmtinyvit shards``.

    python tools/dataset_converters/parquet_to_shards.py 'data/w21-p/*.parquet' --out data/w21-p-shards
    python tools/dataset_converters/index_images.py data/w21-p-shards --check

Needs pyarrow: pip install "mmtinyvit[parquet]". The same command goes on after an interruption.
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.shards import ON_INTERRUPT, main

if __name__ == '__main__':
    run_command(main, ON_INTERRUPT)
