"""The order of the packages: imports fall one way, and none goes round, lazy ones included."""
import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Each may import itself and those before it. `mmtinyvit` itself is the face of the library: it may import anything.
LAYERS = ['errors', 'version', 'paths', 'compat', 'registry', 'config', 'host_memory', 'store', 'zoo', 'evaluation',
          'datasets', 'models', 'engine', 'apis', 'contraction', 'cli', '__main__']


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {name_of(path): path for path in sorted((ROOT / 'mmtinyvit').rglob('*.py'))}


def imports(name: str) -> Iterator[str]:
    """The modules of the library that a module imports, anywhere in its text."""
    path = MODULES[name]
    package = name.split('.') if path.name == '__init__.py' else name.split('.')[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split('.')[0] == 'mmtinyvit')
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else []
            base = '.'.join([*above, *([node.module] if node.module else [])])
            if base.split('.')[0] == 'mmtinyvit':
                yield from (inner if (inner := f'{base}.{alias.name}') in MODULES else base for alias in node.names)


GRAPH = {name: set(imports(name)) - {name} for name in MODULES}


@pytest.mark.parametrize('layer', LAYERS)
def test_imports_fall_one_way(layer):
    allowed = LAYERS[:LAYERS.index(layer) + 1]
    upwards = [f'{name} imports {other}' for name in MODULES if name.split('.')[1:2] == [layer]
               for other in GRAPH[name] if (other.split('.') + ['mmtinyvit'])[1] not in allowed]
    assert not upwards


def test_every_package_has_its_place():
    assert {name.split('.')[1] for name in MODULES if '.' in name} == set(LAYERS)


def test_no_imports_in_a_circle():
    left = {name: others - {'mmtinyvit'} for name, others in GRAPH.items()}
    while ends := {name for name in left
                   if not left[name] & left.keys() or all(name not in others for others in left.values())}:
        left = {name: others for name, others in left.items() if name not in ends}
    assert not left, 'these import each other'


def test_nobody_outside_the_store_reaches_into_it():
    private = {'_codec', '_keys', '_shard'}
    reached = [f'{path.relative_to(ROOT)}:{node.lineno} {node.attr}'
               for folder in ('mmtinyvit', 'tools', 'benchmarks', 'projects')
               for path in sorted((ROOT / folder).rglob('*.py')) if ROOT / 'mmtinyvit/store' not in path.parents
               for node in ast.walk(ast.parse(path.read_text()))
               if isinstance(node, ast.Attribute) and node.attr in private
               and not (isinstance(node.value, ast.Name) and node.value.id == 'self')]
    assert not reached
