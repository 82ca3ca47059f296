"""The console command: its help, what it answers to slips, the tools behind it, and completion."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmtinyvit import __version__
from mmtinyvit.cli.console import NAMES, command_module, console, help_text
from mmtinyvit.paths import config_root, mim_root

TOOLS = dict(save='save_logits', store='logit_store', export='export_onnx', publish='publish_model',
             download='download_checkpoints', tinymim='tinymim_chain', index='dataset_converters/index_images',
             shards='dataset_converters/parquet_to_shards')


def run(*words: object, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', 'mmtinyvit', *map(str, words)], capture_output=True, text=True,
                          cwd=mim_root(), env=os.environ | env)


def test_help_fits_one_screen():
    lines = help_text().splitlines()
    assert len(lines) <= 23 and max(map(len, lines)) <= 80  # and the next prompt
    assert [re.match(r'  (\S+)', line)[1] for line in lines if line.startswith('  ')] == NAMES


@pytest.mark.parametrize('words', [[], ['--help']])
def test_help_imports_nothing_heavy(words):
    code = ('import sys; from mmtinyvit.cli.console import console\nconsole(sys.argv[1:])\n'
            'print({"torch", "mmengine", "numpy", "rich", "argcomplete"} & sys.modules.keys())')
    done = subprocess.run([sys.executable, '-c', code, *words], capture_output=True, text=True, cwd=mim_root())
    assert done.stdout == f'{help_text()}\nset()\n', done.stderr


def test_version():
    assert run('--version').stdout == f'mmtinyvit {__version__}\n'


def test_a_slip_names_what_is_near():
    done = run('trian', 'config.py')
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == ('Error: mmtinyvit has no command trian (did you mean train?): mmtinyvit --help lists '
                           'them.\n')


@pytest.mark.parametrize('name', NAMES)
def test_each_help_fits_80_columns(name, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    assert max(map(len, command_module(name).build_parser().format_help().splitlines())) <= 80


@pytest.mark.parametrize('name', NAMES)
def test_each_command_has_the_flags_of_its_tool(name, capsys, monkeypatch):
    """The same parser, under the name that was typed."""
    monkeypatch.setattr(sys, 'argv', [f'mmtinyvit {name}'])
    assert command_module(name).build_parser().format_usage().startswith(f'usage: mmtinyvit {name} ')
    tool = mim_root() / f'tools/{TOOLS.get(name, name.replace("-", "_"))}.py'
    if name not in ('views', 'convert', 'distill', 'doctor'):  # tools of other names, and commands without
        assert f'from mmtinyvit.cli.{name.replace("-", "_")} import' in tool.read_text()


@pytest.mark.parametrize(('words', 'said'), [
    (['train', 'no_such_config.py'], 'There is no config no_such_config.py'),
    (['train', 'mmtinyvit::tinyvit/distil_in21k.py'], f'did you mean {config_root()}/tinyvit/distill_in21k.py'),
    (['test', 'mmtinyvit::demo/distill.py', 'no.pth'], 'There is no checkpoint no.pth'),
])
def test_a_failure_is_one_sentence(words, said, monkeypatch, capfd):
    monkeypatch.setattr(sys, 'argv', [])
    with pytest.raises(SystemExit) as ended:
        console(words)
    assert ended.value.code == 1
    out, err = capfd.readouterr()
    assert err.startswith('Error: ') and said in err and err.count('\n') == 1 and out == ''


def completions(line: str, folder: Path) -> list[str]:
    """What a shell gets when Tab is pressed at the end of ``line``."""
    out = folder / 'completions'
    run(_ARGCOMPLETE='1', _ARGCOMPLETE_IFS='\n', _ARGCOMPLETE_STDOUT_FILENAME=str(out), COMP_LINE=line,
        COMP_POINT=str(len(line)), COMP_TYPE='9')
    return [word.strip() for word in out.read_text().split('\n') if word.strip()]


@pytest.mark.parametrize(('line', 'words'), [
    ('mmtinyvit ', NAMES), ('mmtinyvit tr', ['train']), ('mmtinyvit train --am', ['--amp']),
    ('mmtinyvit store ver', ['verify']), ('mmtinyvit store verify --dec', ['--decode']),
    ('mmtinyvit train tinyvit/distill_in21', ['tinyvit/distill_in21k.py']),
    ('mmtinyvit download mmtinyvit-21m_distill', ['mmtinyvit-21m_distill_3rdparty_in21k']),
    ('mmtinyvit train config.py --launcher py', ['pytorch']), ('mmtinyvit distill data=x fine', ['finetune=',
                                                                                                 'finetune_epochs=']),
    ('mmtinyvit distill student=tinyvit-2', ['student=tinyvit-21m']), ('mmtinyvit distill epochs=conf', []),
    ('mmtinyvit distill data=conf', ['data=configs/']), ('mmtinyvit distill teacher=READ', ['teacher=README.md']),
])
def test_completion(line, words, tmp_path):
    assert completions(line, tmp_path) == words
