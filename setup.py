"""Packaging of mmtinyvit: requirements from ``requirements/``, and configs, tools and projects inside every wheel.

What is always installed is given as ranges, in ``runtime.txt``, so that the library fits into an existing environment;
the exact versions that are tested stand in ``constraints.txt``, for ``make env``.

OpenMMLab's tools look for a library's configs under ``<package>/.mim``. A wheel gets them there as real files; an
editable install reads them from the repository instead (see ``mmtinyvit.paths``).

MIM looks for them in the folder that comes first in the list of installed files. That list is sorted, and begins with
the console command, ``../../../bin/mmtinyvit``; a folder ``+mmtinyvit`` comes before it, so a wheel holds them there a
second time.
"""
import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_CONTENT = ('configs', 'tools', 'projects', 'model-index.yml')
LEFT_OUT = shutil.ignore_patterns('__pycache__', '*.pyc', 'tests')


def requirements(*names: str) -> list[str]:
    """The requirement lines of ``requirements/<name>.txt``, without comments."""
    lines = [line for name in names for line in (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()]
    return [bare for line in lines if (bare := line.split('#')[0].strip())]


class BuildWithMim(build_py):
    """``build_py`` that adds ``{mmtinyvit,+mmtinyvit}/.mim/{configs,tools,projects,model-index.yml}`` to a wheel."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for package in ('mmtinyvit', '+mmtinyvit'):
            mim = Path(self.build_lib) / package / '.mim'
            shutil.rmtree(mim, ignore_errors=True)  # a reused build folder must not ship files deleted since
            for name in MIM_CONTENT:
                source = ROOT / name
                if source.is_dir():
                    shutil.copytree(source, mim / name, ignore=LEFT_OUT)
                else:
                    mim.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, mim / name)


setup(
    name='mmtinyvit',
    version=runpy.run_path(str(ROOT / 'mmtinyvit' / 'version.py'))['__version__'],
    description='Pretraining distillation for small vision transformers, as a plugin library for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=find_packages(include=['mmtinyvit', 'mmtinyvit.*']),
    package_data={'mmtinyvit': ['**/README.md', '**/*.html']},
    install_requires=requirements('runtime'),
    extras_require={
        'onedl': requirements('onedl', 'onedl_detection'),
        'openmmlab': requirements('openmmlab'),
        'demo': requirements('demo'),
        'contract': requirements('contract'),
        'remote': requirements('remote'),
        'export': requirements('export'),
        'parquet': requirements('parquet'),
        'ray': requirements('ray'),
        'openvino': requirements('openvino'),
        'segmentation': requirements('segmentation'),
        'dev': requirements('dev', 'demo', 'contract', 'remote', 'export', 'parquet', 'ray'),
        'docs': requirements('docs'),
    },
    entry_points={'console_scripts': ['mmtinyvit = mmtinyvit.cli.console:console']},
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
