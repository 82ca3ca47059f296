"""A run on the CPU keeps its memory from step to step, counted in pages that the system has to hand out."""
import ctypes
import resource
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from processes import CLEAN
from tiny_flow import photo_dataset, runtime, student

from mmtinyvit import host_memory
from mmtinyvit.engine.hooks import HostMemoryHook
from mmtinyvit.host_memory import keep_host_memory

SIZE = 40 * 2**20  # bytes; from 32 MiB on glibc gives a tensor back whatever was held before it
PAGES = 4 * SIZE // resource.getpagesize()  # of one step
glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'mallopt'), reason='not glibc')


def step() -> int:
    """Pages taken anew by a step that holds four tensors, as forward passes do, and gives them back."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.ones(SIZE, dtype=torch.uint8) for _ in range(4)]
    del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def median_of_steps() -> float:
    """Not a single step: gaps that small objects leave between the tensors let the heap grow in one or the other."""
    return median(step() for _ in range(11))


def medians_before_and_after() -> tuple[float, float]:
    before = median_of_steps()
    assert keep_host_memory()
    return before, median_of_steps()


def steps_after_training(photos, work_dir) -> float:
    loader = dict(batch_size=7, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                  collate_fn=dict(type='default_collate'), dataset=photo_dataset(photos))
    cfg = runtime(work_dir) | dict(
        model=student(1000) | dict(type='ImageClassifier'), train_dataloader=loader,
        default_hooks=dict(host_memory=dict(type='mmtinyvit.HostMemoryHook')),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.)), train_cfg=dict(by_epoch=True, max_epochs=1),
        custom_hooks=[dict(type='mmtinyvit.EpochClockHook')])
    Runner.from_cfg(Config(cfg)).train()
    return median_of_steps()


def in_new_process(function, *args):
    with ProcessPoolExecutor(1, CLEAN) as pool:
        return pool.submit(function, *args).result()


@glibc
def test_memory_is_given_back_unless_it_is_kept():
    before, after = in_new_process(medians_before_and_after)
    assert before > PAGES / 2 and after < PAGES / 100


@glibc
def test_a_run_with_the_hook_keeps_its_memory(photos, tmp_path):
    assert in_new_process(steps_after_training, photos, tmp_path) < PAGES / 100


@pytest.mark.parametrize('recipe', ['tinyvit/tiny_vit_5m_in1k', 'detection/retinanet_tiny_vit_5m_fpn_1x_coco',
                                    'segmentation/semantic_fpn_tiny_vit_5m_80k_ade20k', 'demo/digits', 'demo/canvases'])
def test_the_runtime_of_all_recipes_has_the_hook(recipe):
    cfg = Config.fromfile(f'configs/{recipe}.py')
    assert cfg.default_hooks.host_memory == dict(type='mmtinyvit.HostMemoryHook')


@pytest.mark.parametrize(('device', 'kept'), [('cpu', True), ('meta', False)])
def test_only_runs_on_the_cpu_are_concerned(monkeypatch, device, kept):
    calls = []
    monkeypatch.setattr('mmtinyvit.engine.hooks.host_memory.keep_host_memory', lambda: calls.append(1))
    HostMemoryHook().before_run(SimpleNamespace(model=torch.nn.Linear(2, 2, device=device)))
    assert bool(calls) == kept


@pytest.mark.parametrize('error', [AttributeError, OSError, TypeError])
def test_other_c_libraries_are_left_alone(monkeypatch, error):

    def no_library(name):
        raise error

    monkeypatch.setattr(host_memory.ctypes, 'CDLL', no_library)
    assert keep_host_memory() is False
