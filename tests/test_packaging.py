"""The wheel, the requirement files, the checks at import, and the set-up's own rules."""
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import distributions
from importlib.metadata import version as installed
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mmtinyvit import __version__, compat, paths
from mmtinyvit.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def tracked(*folders: str) -> set[str]:
    listed = subprocess.run(['git', 'ls-files', '-z', '--', *folders], cwd=ROOT, capture_output=True, check=True).stdout
    return {name for name in listed.decode().split('\0') if name and (ROOT / name).exists()}


def lines(name: str) -> list[str]:
    """The lines of a requirements file, without comments."""
    return [bare for line in (ROOT / f'requirements/{name}.txt').read_text().splitlines()
            if (bare := line.split('#')[0].strip())]


def test_a_wheel_of_a_fresh_clone(tmp_path):
    """It holds configs, tools, projects and the model index, finds them once installed, and says what it needs."""
    if not (ROOT / '.git').exists():
        pytest.skip('needs the git checkout to know which files belong to the repository')
    clone, out, site = tmp_path / 'clone', tmp_path / 'out', tmp_path / 'site'
    for name in tracked():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, clone / name)
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '--no-build-isolation', '--no-deps', '-w', out, clone],
                   check=True, capture_output=True)
    with zipfile.ZipFile(next(out.glob('mmtinyvit-*.whl'))) as wheel:
        names = wheel.namelist()
        meta = Parser().parsestr(wheel.read(next(name for name in names if name.endswith('METADATA'))).decode())
    subprocess.run([sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index', '--target', site,
                    next(out.glob('*.whl'))], check=True, capture_output=True)
    shipped = {name for name in tracked('configs', 'tools', 'projects', 'model-index.yml') if '/tests/' not in name}
    expected = {f'{package}/.mim/{name}' for package in ('mmtinyvit', '+mmtinyvit') for name in shipped}
    expected |= tracked('mmtinyvit/*.py', 'mmtinyvit/*.md', 'mmtinyvit/*.html')
    assert {name for name in names if not name.startswith('mmtinyvit-')} == expected

    # what `mim train|test|run|search mmtinyvit` takes for the library's folder
    found, = distributions(name='mmtinyvit', path=[str(site)])
    mim = site / found.files[0].parts[0] / '.mim'
    assert (mim / 'tools/train.py').is_file() and (mim / 'configs/tinyvit/distill_in21k.py').is_file()
    assert found.read_text('top_level.txt').split() == ['mmtinyvit'], "what mmengine takes for it, for 'mmtinyvit::...'"

    code = ('import sys\nfrom mmtinyvit.config import read_config\n'
            'read_config("projects/mobilevit/configs/mobilevit_s_in1k.py")\n'
            'print(sys.modules["projects.mobilevit.mobilevit"].__file__)')
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env={'PYTHONPATH': str(site)}, check=True,
                          capture_output=True, text=True)
    assert Path(done.stdout.strip()).is_relative_to(site / 'mmtinyvit/.mim/projects')

    command = [sys.executable, site / 'bin/mmtinyvit']
    done = subprocess.run([*command, '--help'], cwd=tmp_path, env={'PYTHONPATH': str(site)}, check=True,
                          capture_output=True, text=True)
    assert done.stdout.startswith('usage: mmtinyvit COMMAND')
    done = subprocess.run([*command, 'train', 'mmtinyvit::demo/label_only.py'], cwd=tmp_path, capture_output=True,
                          text=True, env={'PYTHONPATH': str(site)})
    assert done.stderr.startswith('Error: train_dataloader needs work_dirs/demo/digits'), done.stderr

    code = 'import mmtinyvit, mmtinyvit.paths as p; print(mmtinyvit.__version__, p.config_root())'
    done = subprocess.run([sys.executable, '-c', code], cwd=site, env={'PYTHONPATH': str(site)}, check=True,
                          capture_output=True, text=True)
    assert done.stdout.split() == [__version__, str(site / 'mmtinyvit/.mim/configs')]

    assert set(meta.get_all('Provides-Extra')) == {
        'contract', 'onedl', 'openmmlab', 'openvino', 'dev', 'demo', 'docs', 'export', 'parquet', 'ray', 'remote',
        'segmentation'}
    requirements = meta.get_all('Requires-Dist')
    assert not [line for line in requirements if re.match(r'(torch|torchvision)\b', line)]  # stands beside any torch
    assert {Requirement(line) for line in requirements if ';' not in line} == set(map(Requirement, lines('runtime')))
    assert 'onedl-mmcv==2.3.6; extra == "onedl"' in requirements


def test_config_root_in_a_checkout():
    assert paths.config_root() == ROOT / 'configs'


def test_config_root_of_a_lone_package(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, '__file__', str(tmp_path / 'mmtinyvit/paths.py'))
    with pytest.raises(UserError, match='The configs of mmtinyvit are neither in .*: install a wheel'):
        paths.config_root()


def test_minimum_versions_are_those_of_the_requirement_files():
    listed = dict(line.split('>=') for line in lines('openmmlab'))
    assert listed == {module: minimum for module, (_, minimum) in compat.MINIMUM_VERSIONS.items()}


def test_a_plugin_asks_for_ranges_and_the_environment_pins_them():
    wanted, pinned = ([Requirement(line) for line in lines(name)] for name in ('runtime', 'constraints'))
    assert [each.name for each in wanted] == [each.name for each in pinned]
    for ours, pin in zip(wanted, pinned, strict=True):
        assert [each.operator for each in ours.specifier] == ['>='], ours
        (operator, version), = ((each.operator, each.version) for each in pin.specifier)
        assert operator == '==' and ours.specifier.contains(version) and installed(pin.name) == version, pin


def test_every_pin_is_written_once():
    pins = [line for path in (ROOT / 'requirements').glob('*.txt') for line in lines(path.stem) if '==' in line]
    names = [pin.partition('==')[0] for pin in pins]
    assert len(names) == len(set(names)) > 10
    elsewhere = ''.join((ROOT / name).read_text() for name in ('setup.py', 'pyproject.toml', 'Makefile'))
    assert not re.search(r'\w==\d', elsewhere)


def test_build_requirements_agree():
    build = tomllib.loads((ROOT / 'pyproject.toml').read_text())['build-system']['requires']
    assert set(build) <= set(lines('build'))


def fake_library(folder: Path, module: str, version: str) -> None:
    (folder / module).mkdir()
    (folder / module / '__init__.py').write_text('raise ImportError("imported")')
    (folder / f'{module}-{version}.dist-info').mkdir()
    (folder / f'{module}-{version}.dist-info/METADATA').write_text(f'Name: {module}\nVersion: {version}\n')


@pytest.mark.parametrize(('present', 'message'), [
    ({}, 'mmtinyvit needs PyTorch, which is not installed'),
    ({'torch': '2.12.1'}, 'needs mmengine 0.10.0 or newer, which is not installed: run `make env` .*onedl-mmengine`'),
    ({'torch': '2.12.1', 'mmengine': '0.9.1'}, 'needs mmengine 0.10.0 or newer, but 0.9.1 is installed'),
    ({'torch': '2.12.1', 'mmengine': '0.10.8rc1', 'mmcv': '2.0.1', 'mmpretrain': '1.2.0'},
     'needs mmcv 2.1.0 or newer, but 2.0.1 is installed: run `pip install --upgrade onedl-mmcv`'),
    ({'torch': '2.12.1', 'mmengine': '0.10.8rc1', 'mmcv': '2.1.0'}, 'needs mmpretrain 1.2.0 or newer, which is not'),
    ({'torch': '2.12.1', 'mmengine': '0.10.0', 'mmcv': '2.10.0', 'mmpretrain': '1.2.0', 'mmdet': '2.28.2'},
     'needs mmdet 3.3.0 or newer, but 2.28.2 is installed'),
    ({'torch': '2.12.1', 'mmengine': '0.10.0', 'mmcv': '2.10.0', 'mmpretrain': '1.2.0'}, '^ImportError: imported$'),
])
def test_libraries_are_checked_before_they_are_imported(tmp_path, present, message):
    """In an interpreter without site-packages."""
    for module, version in present.items():
        fake_library(tmp_path, module, version)
    code = f'import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import mmtinyvit; mmtinyvit.get_model'
    done = subprocess.run([sys.executable, '-I', '-S', '-c', code], capture_output=True, text=True)
    assert done.returncode != 0
    assert re.search(message, done.stderr.splitlines()[-1])


WITHOUT = 'import sys; sys.modules |= dict.fromkeys(("torch", "mmengine", "mmcv", "mmpretrain", "timm")); '


def test_the_store_works_without_torch(saved_store):
    code = WITHOUT + """
from mmtinyvit.store import LogitStore, verify_store
store = LogitStore(sys.argv[1])
store.read(view=0, keys=[store.key(0)])
assert not any(finding.problem for finding in verify_store(sys.argv[1]))
"""
    done = subprocess.run([sys.executable, '-c', code, saved_store], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_make_help_lists_the_targets():
    done = subprocess.run(['make', '--no-print-directory', 'help'], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    assert list(dict.fromkeys(line.split()[1] for line in done.stdout.splitlines())) == [
        'env', 'demo', 'test', 'coverage', 'lint', 'bench', 'docs']


@pytest.mark.parametrize('detect, operators, flag', [('', False, False), ('1', True, True), ('0', False, False)])
def test_only_detection_asks_for_the_operators(detect, operators, flag):
    """What ``make demo`` would do from nothing, without doing it."""
    done = subprocess.run(['make', '-n', 'demo', f'DETECT={detect}', 'VENV=/nonexistent'], cwd=ROOT,
                          capture_output=True, text=True, check=True)
    assert ('mmcv_operators.sh' in done.stdout) == operators
    assert ('tools/demo.py --detect' in done.stdout) == flag


def test_old_python_is_refused_with_one_sentence(tmp_path):
    for name in ('Makefile', 'requirements'):
        (tmp_path / name).symlink_to(ROOT / name)
    old = tmp_path / 'python3'
    old.write_text('#!/bin/sh\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(['make', '--no-print-directory', 'env-demo', f'PYTHON={old}'], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode != 0
    sentence = f'mmtinyvit needs Python 3.11 or newer, and {old} is older: name another with PYTHON=...'
    assert done.stdout.strip() == sentence


@pytest.mark.skipif(not (ROOT / '.venv/stamps').exists(), reason='make env has not run here')
def test_second_make_env_does_nothing():
    done = subprocess.run(['make', '--no-print-directory', '--dry-run', 'env'], cwd=ROOT, capture_output=True,
                          text=True, check=True)
    assert 'pip' not in done.stdout
