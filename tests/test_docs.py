"""The documentation tells the truth: links, commands, flags, configs, types and error sentences exist."""
import argparse
import ast
import functools
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mmtinyvit.registry as registries

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs/en'
PAGES = sorted(path for path in (ROOT / 'README.md', ROOT / 'mmtinyvit/store/README.md', *DOCS.glob('*.md'),
                                 *ROOT.glob('configs/**/README.md'), *ROOT.glob('projects/*/README.md'))
               if not path.is_symlink())
CONFIGS = sorted([*ROOT.glob('configs/[!_]*/**/*.py'), *ROOT.glob('projects/*/configs/[!_]*.py')])
CONFIG_FOLDERS = ('configs/', 'projects/')


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```', path.read_text(), re.DOTALL | re.MULTILINE)


# ---------------------------------------------------------------- links
def anchors(path: Path) -> set[str]:
    titles = re.findall(r'^#+ (.*)$', re.sub(r'^```.*?^```', '', path.read_text(), flags=re.DOTALL | re.MULTILINE),
                        re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_links_resolve(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if target.startswith(('https://', 'mailto:')):
            continue
        path, _, anchor = target.partition('#')
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_every_page_is_in_the_navigation():
    config = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())
    assert sorted(page for entry in config['nav'] for page in entry.values()) == sorted(
        path.name for path in DOCS.glob('*.md'))


def test_documentation_builds(tmp_path):
    subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet', '--site-dir', tmp_path], cwd=ROOT,
                   check=True)
    assert (tmp_path / 'index.html').is_file()


# ---------------------------------------------------------------- commands
class _Parser(Exception):
    """Carries a script's argument parser out of it."""


@functools.cache
def parsers(script: str) -> list[argparse.ArgumentParser]:
    """The parser of a script and its subcommands, taken when the script is about to parse."""
    def stop(parser, *_):
        raise _Parser(parser)

    spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    module = importlib.util.module_from_spec(spec)
    added = [str((ROOT / script).parent)]
    with mock.patch.object(sys, 'path', added + sys.path), mock.patch.object(
            argparse.ArgumentParser, 'parse_args', stop), mock.patch.object(
                argparse.ArgumentParser, 'parse_intermixed_args', stop):
        spec.loader.exec_module(module)
        try:
            getattr(module, 'parse_args', None) and module.parse_args()
            module.main()
        except _Parser as found:
            parser = found.args[0]
    subs = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [parser, *(each for sub in subs for each in sub.choices.values())]


def commands(text: str) -> list[list[str]]:
    """The words of each command, comments and continuations resolved."""
    return [words for line in text.replace('\\\n', ' ').splitlines() if (words := shlex.split(line, comments=True))]


def written_commands() -> list[tuple[str, list[str]]]:
    found = []
    for page in PAGES:
        found += [(name(page), words) for block in blocks(page, 'shell') for words in commands(block)]
    for config in CONFIGS:
        text = ast.get_docstring(ast.parse(config.read_text())) or ''
        lines = [line for line in text.splitlines() if line.startswith('    ')]
        found += [(name(config), words) for line in lines for words in commands(line)]
    return found


@pytest.mark.parametrize(('where', 'words'), written_commands(), ids=lambda value: value if isinstance(value, str)
                         else ' '.join(value)[:70])
def test_commands_name_what_exists(where, words):
    while re.fullmatch(r'[A-Z_]+=.*', words[0]):
        words = words[1:]
    program, rest = words[0], words[1:]
    if program == 'make':
        assert re.search(rf'^{rest[0]}:', (ROOT / 'Makefile').read_text(), re.MULTILINE), rest
        return
    if program == 'python' and rest[0] != '-c':
        program, rest = rest[0], rest[1:]
    if not program.startswith(('tools/', 'benchmarks/')):
        assert program in ('pip', 'python', 'wget', 'mkdir', 'rsync', 'export'), program
        return
    assert (ROOT / program).is_file() and (program.endswith('.py') or os.access(ROOT / program, os.X_OK)), program
    for config in (word for word in rest if word.startswith(CONFIG_FOLDERS)):
        assert (ROOT / config).is_file(), config
    script = {'dist_save_logits.sh': 'tools/save_logits.py', 'dist_test.sh': 'tools/test.py', 'dist_train.sh':
              'tools/train.py', 'slurm_train.sh': 'tools/train.py'}.get(Path(program).name, program)
    flags = {flag for parser in parsers(script) for flag in parser._option_string_actions}
    assert {word.split('=')[0] for word in rest if word.startswith('--')} <= flags
    if '--cfg-options' in rest:
        check_options(rest)


def check_options(words: list[str]) -> None:
    """Every key that a command overrides is in the config, or is one that MMEngine documents."""
    cfg = Config.fromfile(next(ROOT / word for word in words if word.startswith(CONFIG_FOLDERS)))
    for key in (word.partition('=')[0] for word in words[words.index('--cfg-options') + 1:]):
        node, *path = cfg._cfg_dict, *key.split('.')
        for step in path:
            if step in ('accumulative_counts', 'dtype') and path[0] == 'optim_wrapper':
                break
            node = node[int(step)] if isinstance(node, list) else node[step]


# ---------------------------------------------------------------- code and configs
@pytest.mark.parametrize('page', PAGES, ids=name)
def test_python_compiles(page):
    for block in blocks(page, 'python'):
        compile(block, name(page), 'exec')


CONFIG_BLOCKS = [(name(page), block) for page in PAGES for block in blocks(page, 'python') if '_base_ =' in block]


@pytest.mark.parametrize(('where', 'block'), CONFIG_BLOCKS, ids=[f'{w}-{i}' for i, (w, _) in enumerate(CONFIG_BLOCKS)])
def test_configs_in_the_text_build(where, block, tmp_path):
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    folder = 'teachers' if "_base_ = 'timm_in1k" in block or 'SaveLogitsLoop' in block else 'tinyvit'
    path = tmp_path / 'configs' / folder / 'block.py'
    path.write_text(block)
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(path)
    model = cfg.model.to_dict()
    for each in [model, *model.get('teachers', [])]:
        each.update({'pretrained': False} if 'pretrained' in each else {})
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    model = MODELS.build(model)
    if folder == 'tinyvit':
        classes = cfg.model.get('head', cfg.model).get('num_classes')
        assert model.eval()(torch.zeros(1, 3, 224, 224), mode='tensor').shape == (1, classes)


def test_types_in_the_text_are_registered():
    for package in ROOT.glob('projects/*/*/__init__.py'):
        importlib.import_module('.'.join(package.parent.relative_to(ROOT).parts))
    known = {each for registry in vars(registries).values() if isinstance(registry, registries.Registry)
             for each in (registry.import_from_location() or registry.module_dict)}
    for page in PAGES:
        for each in re.findall(r'`mmtinyvit\.([A-Z]\w+)', page.read_text()):
            assert each in known, (name(page), each)


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_files_in_the_text_exist(page):
    folders = 'configs|tools|benchmarks|requirements|mmtinyvit|projects|docs'
    for path in re.findall(rf'`((?:{folders})/[\w./-]*)`', page.read_text()):
        assert (ROOT / path).exists(), path


# ---------------------------------------------------------------- error sentences
def sentences() -> str:
    """Every text in the sources, with … for what is filled in."""
    def text(node: ast.AST) -> str:
        if isinstance(node, ast.JoinedStr):
            return ''.join(part.value if isinstance(part, ast.Constant) else '…' for part in node.values)
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ''

    files = [*ROOT.glob('mmtinyvit/**/*.py'), *ROOT.glob('tools/**/*.py')]
    return '\n'.join(text(node) for file in files for node in ast.walk(ast.parse(file.read_text())))


def test_sentences_in_troubleshooting_are_those_of_the_code():
    rows = re.findall(r'^\| (.+?) \|', (DOCS / 'troubleshooting.md').read_text(), re.MULTILINE)
    said, quoted = sentences(), [row for row in rows if row != 'sentence']
    assert len(quoted) > 40
    assert [row for row in quoted if row not in said] == []
