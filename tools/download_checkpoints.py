"""Download published checkpoints: by name, or all that match a pattern.

The same as ``mmtinyvit download``.

    python tools/download_checkpoints.py --list
    python tools/download_checkpoints.py mmtinyvit-5m_in21k-distill-pre_3rdparty_in1k
    python tools/download_checkpoints.py 'mmtinyvit-*m_distill' --folder checkpoints

Started again after an interruption, it goes on where it stopped. A file counts as downloaded when its checksum is right
and it can be read without running code from it. Where the publisher names no checksum, that of the first download is
recorded beside the file, for `sha256sum --check` and for later downloads.
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.download import ON_INTERRUPT, main

if __name__ == '__main__':
    run_command(main, ON_INTERRUPT)
