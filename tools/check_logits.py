"""Another name of `tools/logit_store.py verify`, with the same arguments.

    python tools/check_logits.py data/in21k_logits
    python tools/check_logits.py data/in21k_logits --teacher configs/teachers/clip_vit_l14_in21k.py --checkpoint T.pth
"""
import runpy
import sys
from pathlib import Path

if __name__ == '__main__':
    print('tools/check_logits.py is another name of tools/logit_store.py verify: use that.', file=sys.stderr)
    sys.argv[1:1] = ['verify']
    runpy.run_path(str(Path(__file__).with_name('logit_store.py')), run_name='__main__')
