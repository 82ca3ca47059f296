import functools
import gc
import logging
import runpy
import signal
import subprocess
import sys
from typing import NamedTuple

import mmengine.config.utils
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from object_storage import ObjectStorage, object_storage
from processes import TOOLS, tool_environment
from tiny_flow import forget_runs, saving, teacher, write_photos

# For every base config of another library MMEngine reads all of its metafiles, half a second each time: once is enough.
mmengine.config.utils.load = functools.cache(mmengine.config.utils.load)
# pytest runs a process per core; and sums are added in the order of the tools' own processes.
torch.set_num_threads(1)
# A script in the background ignores Ctrl-C, and so would the tools that are started here.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Ended(NamedTuple):
    """How a tool ended."""
    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one sentence of a failure, after checking that nothing else of it is shown."""
        assert 'Traceback' not in self.out + self.err, self.out + self.err
        lines = [line for line in self.err.splitlines() if line.startswith('Error: ')]
        assert self.status == 1 and len(lines) == 1, (self.status, self.err)
        assert self.err.rstrip().endswith(lines[0]), self.err
        return lines[0].removeprefix('Error: ')


@pytest.fixture(params=['cpu', *[pytest.param('cuda', marks=pytest.mark.gpu)] * torch.cuda.is_available()])
def device(request):
    """The CPU, and a GPU where there is one; in full float32."""
    before = torch.backends.cudnn.allow_tf32  # of matrix products, False is PyTorch's default
    torch.backends.cudnn.allow_tf32 = False
    yield request.param
    torch.backends.cudnn.allow_tf32 = before


def pytest_collection_finish() -> None:
    """MMEngine collects garbage for every dataset: a third of a second each time, for what the imports left alone."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='module', autouse=True)
def own_scope():
    """Names without a prefix are mmpretrain's in every file, whichever library the file before was about."""
    init_default_scope('mmpretrain')


@pytest.fixture(autouse=True)
def fresh_runs():
    """MMEngine keeps loggers and curves by name and second, and two short tests may share one."""
    forget_runs()


@pytest.fixture
def run_tool(monkeypatch, capfd):
    """Run ``tools/NAME.py`` in this process, as its command line would."""

    def run(name: str, *args) -> Ended:
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        monkeypatch.setattr(logging, 'raiseExceptions', False)  # MMEngine's loggers keep streams of earlier tests
        forget_runs()
        capfd.readouterr()
        status = 0
        try:
            runpy.run_path(str(TOOLS / f'{name}.py'), run_name='__main__')
        except SystemExit as end:
            status = end.code
        return Ended(status, *capfd.readouterr())

    return run


@pytest.fixture(scope='session')
def start_tool():
    """Start ``tools/NAME.py`` in a process of its own, or in several under torchrun."""

    def start(name: str, *args, processes: int = 0, **popen) -> subprocess.Popen:
        launch = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}'] if processes else []
        more = ['--launcher', 'pytorch'] if processes else []
        command = [sys.executable, *launch, str(TOOLS / f'{name}.py'), *map(str, args), *more]
        return subprocess.Popen(command, env=tool_environment(), text=True, **popen)

    return start


@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    """14 images in three classes; not to be changed."""
    return write_photos(tmp_path_factory.mktemp('photos'), 14)


@pytest.fixture(scope='session')
def teacher_checkpoint(tmp_path_factory):
    """A teacher of twelve classes with random weights, and a head that makes it sure of what it says."""
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(teacher())
    model.init_weights()
    model.head.fc.weight.data.mul_(300)
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


@pytest.fixture(scope='session')
def saved_store(tmp_path_factory, photos, teacher_checkpoint):
    """Two views of all photos; not to be changed."""
    folder = tmp_path_factory.mktemp('saved_store')
    Runner.from_cfg(saving(photos, folder / 'store', folder / 'work', teacher_checkpoint)).test()
    return folder / 'store'


@pytest.fixture(scope='session')
def storage():
    """An S3 on this machine."""
    with object_storage() as started:
        yield started


@pytest.fixture
def bucket(storage: ObjectStorage, tmp_path, monkeypatch):
    """The URL of an empty bucket in it, for this process and those that it starts, with an empty cache."""
    import fsspec

    for name, value in storage.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('HOME', str(tmp_path))  # no credentials of the person who runs the tests
    monkeypatch.setenv('MMTINYVIT_CACHE', str(tmp_path / 'cache'))
    name = f'bucket-{tmp_path.parent.name}-{tmp_path.name}'.lower().replace('_', '-')[-63:].lstrip('-')
    fsspec.filesystem('s3').mkdir(name)
    storage.taken()
    yield f's3://{name}'
    storage.fail, storage.alter = lambda method, path: None, None
