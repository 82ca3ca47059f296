"""Tables in a narrow terminal and in a pipe, what --help loads, and what the libraries print about themselves."""
import os
import pty
import re
import struct
import subprocess
import sys
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = sorted(path for path in (ROOT / 'tools').rglob('*.py'))
PATH = 'work_dirs/a/folder/that/is/deeper/than/most/but/not/deeper/than/some/that/people/[b]have/:cat:/in21k_logits'
PRINT = f'''
from mmtinyvit.cli.tables import fact_table, print_tables, row_table
rows = row_table('store', 'views', 'per second', 'bytes per view', 'GiB', words=('store', ))
rows.add_row({PATH!r}, '1,234,567,890', '1,234.5', '20.75', '12,345.6')
print_tables(fact_table(dict(store={PATH!r}, views=1234567890)), rows)
'''


def test_json_into_a_closed_pipe(saved_store):
    """As ``| head -1`` leaves it: no traceback."""
    process = subprocess.Popen([sys.executable, ROOT / 'tools/logit_store.py', 'info', saved_store, '--json'],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == '' and process.wait() == 1


def in_terminal(code: str, columns: int = 80) -> list[str]:
    """The lines that a program shows in a terminal of so many columns."""
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack('HHHH', 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ('COLUMNS', 'LINES')}
    process = subprocess.Popen([sys.executable, '-c', code], stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT,
                               env=environment | dict(TERM='xterm'))
    os.close(theirs)
    shown = b''
    try:
        while block := os.read(ours, 4096):
            shown += block
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0, shown
    return re.sub(r'\x1b\[[0-9;]*m', '', shown.decode()).splitlines()


@pytest.mark.parametrize('columns', [80, 100])
def test_a_terminal_folds_words_and_never_cuts_numbers(columns):
    lines = in_terminal(PRINT, columns)
    assert max(map(len, lines)) <= columns
    shown = '\n'.join(lines)
    assert all(number in shown for number in ('1,234,567,890', '1,234.5', '20.75', '12,345.6')) and '…' not in shown
    first_cells = ''.join(line.split('│')[1].strip() for line in lines[-8:] if '│' in line)
    assert PATH in first_cells, 'folded, and whole'


def test_a_pipe_gets_paths_in_one_line_and_words_in_80_columns():
    environment = {name: value for name, value in os.environ.items() if name != 'COLUMNS'}
    done = subprocess.run([sys.executable, '-c', PRINT], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout.count(PATH) == 2, done.stdout + done.stderr
    words = 'print_tables(fact_table(dict(versions=", ".join(50 * ["mmtinyvit 0.1.0"]))))'
    done = subprocess.run([sys.executable, '-c', f'from mmtinyvit.cli.tables import *\n{words}'], capture_output=True,
                          text=True, cwd=ROOT, env=environment)
    assert max(map(len, done.stdout.splitlines())) == 80 and '…' not in done.stdout, done.stdout


@pytest.mark.parametrize('tool', TOOLS, ids=[path.stem for path in TOOLS])
def test_help_is_there_at_once(tool):
    """The libraries that take seconds to import are not for reading about flags."""
    code = ('import runpy, sys\ntry: runpy.run_path(sys.argv[0], run_name="__main__")\n'
            'except SystemExit: print({"torch", "mmengine", "mmcv", "timm", "cv2"} & sys.modules.keys())')
    done = subprocess.run([sys.executable, '-c', f'import sys; sys.argv = [{str(tool)!r}, "--help"]\n{code}'],
                          capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith('usage:') and done.stdout.endswith('\nset()\n'), done.stdout + done.stderr
    assert done.stderr in ('', *(f'tools/{tool.name} is another name of tools/logit_store.py {name}: use that.\n'
                                 for name in ('verify', 'gallery')))


def test_choices_of_the_help_are_those_of_the_library():
    from mmtinyvit.cli import few_shot as few_shot_command
    from mmtinyvit.cli import index
    from mmtinyvit.datasets.images import layouts, scan
    from mmtinyvit.evaluation import class_map, few_shot

    assert index.LAYOUTS == layouts.LAYOUTS
    assert index.MISSING_CLASSES == scan.MISSING_CLASSES
    assert list(index.LABEL_LAYOUTS) == list(class_map.LAYOUTS)
    assert few_shot_command.CLASSIFIERS == list(few_shot.CLASSIFIERS)


def test_libraries_print_nothing_about_themselves():
    """Not the notice of OneDL on import, nor mmcv's of Pillow in each worker; other prints and warnings stay."""
    code = '''
import mmtinyvit
import mmpretrain.datasets, mmtinyvit.datasets, mmdet.datasets, mmseg.datasets
import mmcv, numpy, warnings
mmcv.adjust_color(numpy.zeros((4, 4, 3), numpy.uint8), 1.5, backend='pillow')
warnings.warn('something else')
print(mmpretrain.datasets.BaseDataset.__name__, mmdet.datasets.CocoDataset.__name__)
'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == 'BaseDataset CocoDataset\n', done.stdout + done.stderr
    assert 'something else' in done.stderr and 'alpha' not in done.stderr
