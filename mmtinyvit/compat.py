"""Are the OpenMMLab libraries here, and new enough?

The check runs when MMEngine asks for our registries, not at import, because `mmtinyvit.store` works without any of
them. It reads installed metadata only and imports none of the libraries, so it costs milliseconds. Those that only some
configs need are checked when such a config is read.
"""
import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType

from .errors import UserError

__all__ = ['ImportHook', 'IncompatibleLibraryError', 'MINIMUM_VERSIONS', 'OPTIONAL', 'check_libraries',
           'hush_libraries', 'installed_version', 'require_library']

# Import name: (distributions that provide it, the maintained fork first; the lowest version that has what we use).
MINIMUM_VERSIONS = {
    'mmengine': (('onedl-mmengine', 'mmengine', 'mmengine-lite'), '0.10.0'),
    'mmcv': (('onedl-mmcv', 'mmcv', 'mmcv-lite'), '2.1.0'),
    'mmpretrain': (('onedl-mmpretrain', 'mmpretrain'), '1.2.0'),
    'mmdet': (('onedl-mmdetection', 'mmdet'), '3.3.0'),
}
# What only detectors and segmenters need, with the distribution that provides it.
OPTIONAL = {'mmdet': 'onedl-mmdetection', 'mmseg': 'onedl-mmsegmentation'}


class IncompatibleLibraryError(UserError, ImportError):
    """A library that mmtinyvit stands on is missing or too old."""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r'\d+', text)[:3])


def installed_version(distributions: tuple[str, ...]) -> str | None:
    """The version of the first installed distribution; None for a library on the path without metadata."""
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def check_libraries() -> None:
    """Check torch and the libraries of :data:`MINIMUM_VERSIONS`.

    Raises:
        IncompatibleLibraryError: One is missing or too old; the sentence names it and the command that mends it.
    """
    if find_spec('torch') is None:
        raise IncompatibleLibraryError('mmtinyvit needs PyTorch, which is not installed: run `make env` in a clone, or '
                                       'install torch and torchvision as https://pytorch.org says.')
    for module, (distributions, minimum) in MINIMUM_VERSIONS.items():
        if find_spec(module) is None:
            if module in OPTIONAL:
                continue
            raise IncompatibleLibraryError(f'mmtinyvit needs {module} {minimum} or newer, which is not installed: run '
                                           f'`make env` in a clone, or `pip install {distributions[0]}`.')
        found = installed_version(distributions)
        if found is not None and _numbers(found) < _numbers(minimum):
            raise IncompatibleLibraryError(f'mmtinyvit needs {module} {minimum} or newer, but {found} is installed: '
                                           f'run `pip install --upgrade {distributions[0]}`.')


def require_library(library: str, what: str) -> None:
    """Make sure that models of one of the :data:`OPTIONAL` libraries can be built here.

    Args:
        library: ``'mmdet'`` or ``'mmseg'``.
        what: What needs it, for the error.

    Raises:
        UserError: It is not installed, or onedl-mmcv was built without its compiled operators.
    """
    if find_spec(library) is None:
        raise UserError(f'{what} needs {library}, which is not installed: run `make env` in a clone, or '
                        f'`pip install {OPTIONAL[library]}`.')
    try:
        import torch  # noqa: F401  the operators link against it
        import_module('mmcv._ext')
    except ImportError as error:
        raise UserError(f"{what} needs mmcv's compiled operators, which this environment does not have ({error}): run "
                        '`make env` in a clone, or `pip install --no-build-isolation --no-cache-dir --force-reinstall '
                        '--no-deps onedl-mmcv` where torch is installed.') from error


# ---------------------------------------------------------------- what is done when a library is imported
class ImportHook(MetaPathFinder):
    """Executes modules, when somebody imports them, inside a context manager; the other finders find them.

    Args:
        around: From the module to the context manager.
        names: The modules.
    """

    def __init__(self, around: Callable[[ModuleType], AbstractContextManager], *names: str) -> None:
        self.around, self.names = around, set(names)

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self.names:
            return None
        self.names.remove(name)  # so that the search below goes on behind this finder
        spec = find_spec(name)
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            with self.around(module):
                execute(module)

        spec.loader.exec_module = exec_module
        return spec


def hush_libraries() -> None:
    """Import the datasets of mmpretrain, mmdet and mmseg without their notice that OneDL is not installed.

    They print it, so that no logging level hides it, among the results of a program that has nothing to do with OneDL.
    """
    places = [f'{library}.datasets' for library in ('mmpretrain', *OPTIONAL)]
    sys.meta_path.insert(0, ImportHook(_without_notice, *places, *(f'{place}.transforms' for place in places)))


@contextmanager
def _without_notice(module: ModuleType) -> Iterator[None]:
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        sys.stdout.write(re.sub('Could not import OneDL.*\n', '', printed.getvalue()))
