"""What every network must stand: golden values, gradients everywhere, mixed precision, one graph, export to ONNX."""
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.analysis import get_model_complexity_info
from torch import Tensor, nn

__all__ = ['bfloat16_is_close', 'check_summary', 'count_macs', 'gradients_missing', 'onnx_is_equal', 'one_graph_is_equal']


def check_summary(tensor: Tensor, summary: dict) -> None:
    """Compare a float64 tensor with the golden summary of one, to 1e-8."""
    flat = tensor.detach().flatten()
    assert tensor.dtype == torch.float64 and list(tensor.shape) == summary['shape']
    found = [flat.mean(), flat.std(), flat.abs().max(), *flat[:4], *flat[-4:]]
    wanted = [summary['mean'], summary['std'], summary['absmax'], *summary['first'], *summary['last']]
    torch.testing.assert_close(torch.stack(found), torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-8)


def count_macs(model: nn.Module, side: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Multiplications of one image as MMEngine counts them, which knows matrix products but no fused attention."""
    def attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, **_) -> Tensor:
        return (q @ k.mT * (q.shape[-1]**-0.5 if scale is None else scale)).softmax(-1) @ v

    with monkeypatch.context() as patch:
        patch.setattr(F, 'scaled_dot_product_attention', attention)
        return get_model_complexity_info(model.eval(), (3, side, side), show_table=False, show_arch=False)['flops']


def _total(outs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A number in which every output counts; positions count differently, or BatchNorm would hide their gradient."""
    outs = outs if isinstance(outs, tuple) else (outs, )
    return sum((each * torch.linspace(-1, 1, each.numel()).to(each.dtype).view_as(each)).square().mean() for each in outs)


def gradients_missing(model: nn.Module, images: Tensor) -> list[str]:
    """The parameters without a gradient, or with one of zeros, in training mode."""
    model.train()
    _total(model(images)).backward()
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]


def bfloat16_is_close(model: nn.Module, images: Tensor, similarity: float = .99) -> None:
    """The direction of each output under autocast, and finite float32 gradients from it."""
    model.eval()
    with torch.inference_mode():
        expected = model(images)
        with torch.autocast('cpu', torch.bfloat16):
            found = model(images)
    for ours, wanted in zip(found, expected, strict=True):
        assert torch.cosine_similarity(ours.float().flatten(), wanted.flatten(), dim=0) > similarity
    model.train()
    with torch.autocast('cpu', torch.bfloat16):
        outs = model(images)
    _total(outs).backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def one_graph_is_equal(model: nn.Module, images: Tensor) -> None:
    """``torch.compile`` without a break, outputs and gradients, in float64: float32 has too few digits for deep nets."""
    torch.compiler.reset()  # or another size of an earlier test would make this one's sizes symbols
    model, images = model.double().eval(), images.double()
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True, dynamic=False)
    found = []
    for run in (model, compiled):
        outs = run(images)
        found.append([*outs, *torch.autograd.grad(_total(outs), list(model.parameters()))])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-9)


def onnx_is_equal(model: nn.Module, images: Tensor, folder: Path) -> None:
    """Exported and run by ONNX Runtime: the outputs, to 1e-4 of the largest."""
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    model.eval()
    torch.onnx.export(model, (images, ), folder / 'model.onnx', dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(folder / 'model.onnx', providers=['CPUExecutionProvider'])
    found = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.inference_mode():
        for ours, expected in zip(found, model(images), strict=True):
            torch.testing.assert_close(torch.from_numpy(ours), expected, rtol=0,
                                       atol=1e-4 * expected.abs().max().item())
