"""Another name of `tools/logit_store.py gallery` for the store that a config names.

    python tools/browse_views.py configs/demo/distill.py --out views.png --samples 6 --views 0:4
"""
import sys

from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.views import main

if __name__ == '__main__':
    print('tools/browse_views.py is another name of tools/logit_store.py gallery: use that.', file=sys.stderr)
    run_command(main)
