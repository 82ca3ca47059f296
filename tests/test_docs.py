"""The documentation is true: links, commands, flags, configs, types, files and error sentences exist."""
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
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mmtinyvit.registry as registries
from mmtinyvit.cli.console import NAMES, command_module

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs/en'
PAGES = sorted(path for path in (ROOT / 'README.md', ROOT / 'mmtinyvit/store/README.md', *DOCS.glob('*.md'),
                                 *ROOT.glob('configs/**/README.md'), *ROOT.glob('projects/*/README.md'))
               if not path.is_symlink())
CONFIGS = sorted([*ROOT.glob('configs/[!_]*/**/*.py'), *ROOT.glob('projects/*/configs/[!_]*.py')])
CONFIG_FOLDERS = ('configs/', 'projects/')
FILE_FOLDERS = 'configs|tools|benchmarks|requirements|mmtinyvit|projects|docs'


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```', path.read_text(), re.DOTALL | re.MULTILINE)


read_config = functools.cache(Config.fromfile)


# ---------------------------------------------------------------- links and files
@functools.cache
def anchors(path: Path) -> set[str]:
    titles = re.findall(r'^#+ (.*)$', re.sub(r'^```.*?^```', '', path.read_text(), flags=re.DOTALL | re.MULTILINE),
                        re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


def faults_of_links(page: Path) -> Iterator[str]:
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if target.startswith(('https://', 'mailto:')):
            continue
        path, _, anchor = target.partition('#')
        linked = page.parent / path if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            yield f'the link {target} leads nowhere'


def faults_of_files(page: Path) -> Iterator[str]:
    for path in re.findall(rf'`((?:{FILE_FOLDERS})/[\w./-]*)`', page.read_text()):
        if not (ROOT / path).exists():
            yield f'there is no {path}'


# ---------------------------------------------------------------- commands
class _Parser(Exception):
    """Carries a script's argument parser out of it."""


@functools.cache
def flags(script: str) -> set[str]:
    """The flags of a command, or of a script when it is about to parse; and of its subcommands."""
    def stop(parser, *_):
        raise _Parser(parser)

    if script in NAMES:
        return all_flags(command_module(script).build_parser())
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
            return all_flags(found.args[0])


def all_flags(parser: argparse.ArgumentParser) -> set[str]:
    subs = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    parsers = [parser, *(each for sub in subs for each in sub.choices.values())]
    return {flag for each in parsers for flag in each._option_string_actions}


def commands(text: str) -> list[list[str]]:
    """The words of each command, comments and continuations resolved."""
    return [words for line in text.replace('\\\n', ' ').splitlines() if (words := shlex.split(line, comments=True))]


def faults_of_command(words: list[str]) -> Iterator[str]:
    while re.fullmatch(r'[A-Z_]+=.*', words[0]):
        words = words[1:]
    program, rest = words[0], words[1:]
    if program == 'make':
        if not re.search(rf'^{rest[0]}:', (ROOT / 'Makefile').read_text(), re.MULTILINE):
            yield f'the Makefile has no target {rest[0]}'
        return
    if program == 'mim':
        found = [path for path in ROOT.glob('configs/**/*.py') if path.name in rest]
        if rest[1] != 'mmtinyvit' or (rest[0] in ('train', 'test') and len(found) != 1):
            yield f'mim {rest[0]} finds {len(found)} configs of that name'
        return
    if program == 'python' and rest[0] != '-c':
        program, rest = rest[0], rest[1:]
    if program == 'mmtinyvit' and rest[0] in NAMES:
        yield from faults_of_arguments(f'mmtinyvit {rest[0]}', rest[0], rest[1:])
        return
    if not program.startswith(('tools/', 'benchmarks/')):
        if program not in ('pip', 'python', 'wget', 'mkdir', 'rsync', 'export', 'eval', 'torchrun', 'ray'):
            yield f'{program} is no program that is known here'
        return
    if not (ROOT / program).is_file() or not (program.endswith('.py') or os.access(ROOT / program, os.X_OK)):
        yield f'{program} cannot be run'
        return
    script = {'dist_save_logits.sh': 'tools/save_logits.py', 'dist_test.sh': 'tools/test.py', 'dist_train.sh':
              'tools/train.py', 'slurm_train.sh': 'tools/train.py'}.get(Path(program).name, program)
    yield from faults_of_arguments(program, script, rest)


def faults_of_arguments(program: str, script: str, rest: list[str]) -> Iterator[str]:
    configs = [word for word in rest if word.startswith(CONFIG_FOLDERS)]
    yield from (f'there is no config {config}' for config in configs if not (ROOT / config).is_file())
    unknown = {word.split('=')[0] for word in rest if word.startswith('--')} - flags(script)
    if unknown:
        yield f'{program} has no {" ".join(sorted(unknown))}'
    if '--cfg-options' in rest and (ROOT / configs[0]).is_file():
        yield from faults_of_options(configs[0], rest[rest.index('--cfg-options') + 1:])


def faults_of_options(config: str, options: list[str]) -> Iterator[str]:
    """Every key that a command overrides is in the config, or is one that MMEngine documents."""
    for key in (word.partition('=')[0] for word in options):
        node, *path = read_config(ROOT / config)._cfg_dict, *key.split('.')
        try:
            for step in path:
                if step in ('accumulative_counts', 'dtype') and path[0] == 'optim_wrapper':
                    break
                node = node[int(step)] if isinstance(node, list) else node[step]
        except (KeyError, IndexError, ValueError, TypeError):
            yield f'{config} has no {key}'


# ---------------------------------------------------------------- code, configs and types
def faults_of_python(page: Path, folder: Path) -> Iterator[str]:
    """Every block compiles, and those that are configs build their model."""
    for number, block in enumerate(blocks(page, 'python')):
        try:
            compile(block, name(page), 'exec')
            if '_base_ =' in block:
                build_model(block, folder, number)
        except Exception as error:  # whatever goes wrong is a fault of the page
            yield f'{type(error).__name__}: {error} in\n{block}'


def build_model(block: str, configs: Path, number: int) -> None:
    folder = 'teachers' if "_base_ = 'timm_in1k" in block or 'SaveLogitsLoop' in block else 'tinyvit'
    path = configs / folder / f'block_{number}.py'
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


@functools.cache
def registered() -> set[str]:
    for package in ROOT.glob('projects/*/*/__init__.py'):
        importlib.import_module('.'.join(package.parent.relative_to(ROOT).parts))
    return {each for registry in vars(registries).values() if isinstance(registry, registries.Registry)
            for each in (registry.import_from_location() or registry.module_dict)}


def faults_of_types(page: Path) -> Iterator[str]:
    for each in re.findall(r'`mmtinyvit\.([A-Z]\w+)', page.read_text()):
        if each not in registered():
            yield f'mmtinyvit.{each} is not registered'


# ---------------------------------------------------------------- the tests
@pytest.fixture(scope='module')
def configs(tmp_path_factory):
    """A copy of the configs, for those in the text."""
    return shutil.copytree(ROOT / 'configs', tmp_path_factory.mktemp('text') / 'configs')


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_page(page, configs):
    faults = [*faults_of_links(page), *faults_of_files(page), *faults_of_types(page), *faults_of_python(page, configs),
              *(fault for block in blocks(page, 'shell') for words in commands(block)
                for fault in faults_of_command(words))]
    assert not faults, '\n'.join(faults)


def test_commands_in_the_configs():
    faults = []
    for config in CONFIGS:
        text = ast.get_docstring(ast.parse(config.read_text())) or ''
        lines = [line for line in text.splitlines() if line.startswith('    ')]
        faults += [f'{name(config)}: {fault}' for words in commands('\n'.join(lines))
                   for fault in faults_of_command(words)]
    assert not faults, '\n'.join(faults)


def test_navigation_has_every_page():
    def pages(entries: list) -> Iterator[str]:
        for entry in entries:
            target, = entry.values()
            yield from pages(target) if isinstance(target, list) else [target]

    config = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())
    assert sorted(pages(config['nav'])) == sorted(
        str(path.relative_to(DOCS)) for suffix in ('md', 'ipynb') for path in DOCS.rglob(f'*.{suffix}'))


def test_documentation_builds(tmp_path):
    subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet', '--site-dir', tmp_path], cwd=ROOT,
                   check=True)
    assert (tmp_path / 'index.html').is_file()


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
    said, quoted = sentences(), [row for row in rows if row != 'message']
    assert len(quoted) > 40
    assert [row for row in quoted if row not in said] == []


# ---------------------------------------------------------------- the reference
REFERENCE = re.findall(r'^::: (\S+)$', '\n'.join(path.read_text() for path in sorted(DOCS.glob('api/*.md'))),
                       re.MULTILINE)


@pytest.mark.parametrize('path', REFERENCE)
def test_the_reference_names_what_exists(path):
    module, _, attribute = path.rpartition('.')
    assert getattr(importlib.import_module(module), attribute).__doc__


def test_the_reference_is_whole():
    """Every type that a config may name, and all that the store exports."""
    shown = {path.rpartition('.')[2] for path in REFERENCE}
    types = {name for attribute in registries.__all__ if isinstance(getattr(registries, attribute), registries.Registry)
             for name in _own_types(getattr(registries, attribute))}
    assert types - shown == set()
    assert set(importlib.import_module('mmtinyvit.store').__all__) - {'FORMAT'} - shown == set()


def _own_types(registry) -> set[str]:
    registry.import_from_location()
    return {name for name, kind in registry.module_dict.items() if kind.__module__.startswith('mmtinyvit.')}


# ---------------------------------------------------------------- the drawings
def test_drawings_are_those_of_the_script():
    spec = importlib.util.spec_from_file_location('pictures', ROOT / 'docs/pictures.py')
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    old = [name for name, draw in pictures.DRAWINGS.items()
           if (DOCS / f'images/{name}.svg').read_text() != draw().svg()]
    assert not old, f'run docs/pictures.py: {old}'
