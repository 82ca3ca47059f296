"""The machine: libraries, compiled operators, devices, the decoder of images, and a folder that is to be written to."""
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch

from mmtinyvit.apis.store_plan import free_bytes
from mmtinyvit.compat import MINIMUM_VERSIONS, OPTIONAL, installed_version
from mmtinyvit.datasets.images.check import decoder_name
from mmtinyvit.errors import UserError
from mmtinyvit.store.folders import is_url
from mmtinyvit.store.locks import StoreLock
from mmtinyvit.version import __version__

from ..runner import count_cores
from ..tables import size
from . import Finding

__all__ = ['check_folder', 'check_machine']

WRITTEN = 32 * 2**20  # bytes, to time a disk
PHOTO = 375, 500  # height and width of ImageNet's usual photo
DECODED = 20
EXTRAS = {'export': ('onnx', 'onnxruntime', 'onnxscript'), 'remote': ('fsspec', 's3fs'), 'parquet': ('pyarrow', ),
          'ray': ('ray', )}


def check_machine() -> Iterator[Finding]:
    """Versions, operators, devices and decoder. What only some uses need is told, and no fault."""
    names = dict(Python=platform.python_version(), mmtinyvit=__version__, torch=torch.__version__)
    names |= {library: installed_version((library, )) or 'none' for library in ('torchvision', 'timm', 'numpy')}
    names |= {library: installed_version(found) or 'none' for library, (found, _) in MINIMUM_VERSIONS.items()}
    names |= {library: installed_version((found, library)) or 'none' for library, found in OPTIONAL.items()}
    yield Finding('versions', ', '.join(f'{name} {version}' for name, version in names.items()))
    yield _operators()
    yield _devices()
    yield _decoder()
    missing = [extra for extra, libraries in EXTRAS.items() if not all(map(find_spec, libraries))]
    if missing:
        yield Finding('not installed', f'what pip install "mmtinyvit[{",".join(missing)}]" brings', None)


def _operators() -> Finding:
    try:
        import_module('mmcv._ext')
    except ImportError as error:
        return Finding('operators of mmcv', f'none ({" ".join(str(error).split())}): classification needs none; '
                       'detection and segmentation do, see docs/en/get_started.md', None)
    return Finding('operators of mmcv', 'compiled')


def _devices() -> Finding:
    cores = count_cores()
    if not torch.cuda.is_available():
        return Finding('devices', f'no GPU; {cores} CPU cores', None)
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return Finding('devices', ', '.join(f'{gpu.name} with {size(gpu.total_memory)}' for gpu in found)
                   + f'; {cores} CPU cores')


def _decoder() -> Finding:
    rows, columns = np.mgrid[:PHOTO[0], :PHOTO[1]]
    noise = np.random.default_rng(0).normal(0, 12, (*PHOTO, 3))
    photo = (np.stack([rows * .5, columns * .4, (rows + columns) * .25], 2) + noise).clip(0, 255).astype(np.uint8)
    data = cv2.imencode('.jpg', photo, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    start = time.perf_counter()
    for _ in range(DECODED):
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    seconds = (time.perf_counter() - start) / DECODED
    good = decoded.shape == photo.shape and bool(abs(decoded.astype(int) - photo).mean() < 20)
    return Finding('decoder', f'{decoder_name("cv2")}, {1e3 * seconds:.1f} ms for a JPEG of {PHOTO[1]} x {PHOTO[0]} '
                   'pixels' if good else f'{decoder_name("cv2")} decodes a JPEG into other pixels', good)


def check_folder(path: str | Path) -> Iterator[Finding]:
    """Room, speed and locks of the folder ``path``, or of that in which it will be. Nothing stays there."""
    if is_url(path):
        yield Finding(f'path {path}', 'a URL: not measured', None)
        return
    place = Path(path).absolute()
    folder = next(each for each in (place, *place.parents) if each.exists())
    if not folder.is_dir():
        yield Finding('disk', f'{folder} is no folder: name one with --path', False)
        return
    try:
        with tempfile.TemporaryDirectory(prefix='.doctor-', dir=folder) as trial:
            written, read = _speeds(Path(trial, 'data'))
            yield Finding('disk', f'{path}: {size(free_bytes(path))} free, writes {written / 2**20:,.0f} MiB/s, reads '
                          f'{read / 2**20:,.0f} MiB/s')
            StoreLock(Path(trial)).close()
            yield Finding('locks', f'{path}: they work on this machine')
    except UserError as error:
        yield Finding('locks', f'{path}: {error}', False)
    except OSError as error:
        yield Finding('disk', f'{folder} cannot be written to ({error.strerror}): name another with --path', False)


def _speeds(path: Path) -> tuple[float, float]:
    """Bytes per second: written and flushed to the disk; and read, not from memory where the system can be told so."""
    block = np.random.default_rng(0).bytes(2**20)
    start = time.perf_counter()
    with open(path, 'wb') as file:
        for _ in range(WRITTEN // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, 'posix_fadvise'):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    written = WRITTEN / (time.perf_counter() - start)
    start = time.perf_counter()
    with open(path, 'rb') as file:
        while file.read(len(block)):
            pass
    return written, WRITTEN / (time.perf_counter() - start)
