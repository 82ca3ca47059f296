"""A run on the CPU keeps its memory from step to step, counted in pages that the system has to hand out, and computes
the attention of bfloat16 in bfloat16."""
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
PAGES = 2 * SIZE // resource.getpagesize()  # of one step
glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'mallopt'), reason='not glibc')


def step() -> int:
    """Pages taken anew by a step that holds two tensors, as forward passes do, and gives them back."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.ones(SIZE, dtype=torch.uint8) for _ in range(2)]
    del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def median_of_steps(device: str | None = None) -> float:
    """After the hook has seen a model on ``device``, if any.

    Not a single step: gaps that small objects leave between the tensors let the heap grow in one or the other.
    """
    if device:
        HostMemoryHook().before_run(SimpleNamespace(model=torch.nn.Linear(2, 2, device=device)))
    return median(step() for _ in range(11))


def steps_after_training(photos, work_dir, hooks: dict) -> float:
    loader = dict(batch_size=7, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                  collate_fn=dict(type='default_collate'), dataset=photo_dataset(photos))
    cfg = runtime(work_dir) | dict(
        model=student(1000) | dict(type='ImageClassifier'), train_dataloader=loader, default_hooks=hooks,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.)), train_cfg=dict(by_epoch=True, max_epochs=1),
        custom_hooks=[dict(type='mmtinyvit.EpochClockHook')])
    Runner.from_cfg(Config(cfg)).train()
    return median_of_steps()


def in_new_process(function, *args) -> float:
    with ProcessPoolExecutor(1, CLEAN) as pool:
        return pool.submit(function, *args).result()


@glibc
@pytest.mark.parametrize(('device', 'kept'), [(None, False), ('cpu', True), ('meta', False)])
def test_memory_is_given_back_unless_the_hook_saw_a_model_on_the_cpu(device, kept):
    pages = in_new_process(median_of_steps, device)
    assert pages < PAGES / 100 if kept else pages > PAGES / 2


@glibc
def test_a_run_with_the_hook_keeps_its_memory(photos, tmp_path):
    hook = dict(host_memory=dict(type='mmtinyvit.HostMemoryHook'))
    assert in_new_process(steps_after_training, photos, tmp_path / 'hook', hook) < PAGES / 100


def attention_error() -> float:
    """How far a gradient in bfloat16 is from that in float32."""
    torch.manual_seed(0)
    inputs = [torch.randn(2, 4, 49, 32, dtype=torch.bfloat16) for _ in range(3)] + [torch.randn(4, 49, 49).bfloat16()]

    def gradient(dtype: torch.dtype) -> torch.Tensor:
        *qkv, bias = (value.to(dtype).requires_grad_() for value in inputs)
        out = torch.nn.functional.scaled_dot_product_attention(*qkv, attn_mask=bias)
        return torch.autograd.grad(out.square().sum(), bias)[0]

    exact = gradient(torch.float32)
    error = torch.dist(gradient(torch.bfloat16).float(), exact).item()
    assert error < .05 * exact.norm()
    return error


def attention_in_runs(allowed: bool) -> dict[str, list[float | bool]]:
    """Error and setting before, in and after runs of several kinds, from a setting of the user's own."""
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(allowed)
    found = {}
    for kind, device, kwargs in (('cpu', 'cpu', {}), ('another device', 'meta', {}),
                                 ('off', 'cpu', dict(bf16_attention=False))):
        hook, runner = HostMemoryHook(**kwargs), SimpleNamespace(model=torch.nn.Linear(2, 2, device=device))
        found[kind] = [attention_error()]
        hook.before_run(runner)
        found[kind].append(attention_error())
        hook.after_run(runner)
        found[kind].append(attention_error())
    return found


def test_attention_of_bfloat16_is_computed_in_it_while_a_run_on_the_cpu_lasts():
    with ProcessPoolExecutor(1, CLEAN) as pool:
        found, users = pool.submit(attention_in_runs, False).result(), pool.submit(attention_in_runs, True).result()
    plain, reduced, after = found['cpu']
    assert plain == after != reduced
    assert found['another device'] == found['off'] == [plain] * 3
    assert all(errors == [reduced] * 3 for errors in users.values())


@pytest.mark.parametrize('recipe', ['tinyvit/tiny_vit_5m_in1k', 'detection/retinanet_tiny_vit_5m_fpn_1x_coco',
                                    'segmentation/semantic_fpn_tiny_vit_5m_80k_ade20k', 'demo/digits', 'demo/canvases'])
def test_the_runtime_of_all_recipes_has_the_hook(recipe):
    cfg = Config.fromfile(f'configs/{recipe}.py')
    assert cfg.default_hooks.host_memory == dict(type='mmtinyvit.HostMemoryHook')


@pytest.mark.parametrize('error', [AttributeError, OSError, TypeError])
def test_other_c_libraries_are_left_alone(monkeypatch, error):

    def no_library(name):
        raise error

    monkeypatch.setattr(host_memory.ctypes, 'CDLL', no_library)
    assert keep_host_memory() is False
