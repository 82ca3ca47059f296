"""What every network must be able to do: learn in all of its parts, mixed precision, one graph, export to ONNX."""
import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

__all__ = ['assert_summary', 'check_autocast', 'check_gradients', 'check_one_graph', 'check_onnx', 'randomise']


def assert_summary(tensor: Tensor, golden: Mapping, tolerance: float = 1e-8) -> None:
    """A tensor against the shape, mean, std, absmax, first and last four values of the original's."""
    assert tensor.dtype == torch.float64 and list(tensor.shape) == list(golden['shape'])
    flat = tensor.detach().flatten()
    found = [flat.mean(), flat.std(), flat.abs().max(), *flat[:4], *flat[-4:]]
    wanted = [golden['mean'], golden['std'], golden['absmax'], *golden['first'], *golden['last']]
    torch.testing.assert_close(torch.stack(found), flat.new_tensor(wanted), rtol=0, atol=tolerance)


@torch.no_grad()
def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights of which every one matters: norms and what starts at zero too."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith('running_var'):
            tensor.uniform_(.5, 1.5, generator=generator)
        elif tensor.is_floating_point() and tensor.ndim < 2:
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=.1)
    return model


def _loss(outputs) -> Tensor:
    return sum(out.float().square().mean() for out in tree_leaves(outputs))


def _gradients(model: nn.Module, images: Tensor, run=None) -> tuple[list[Tensor], list[Tensor]]:
    outputs = (run or model)(images)
    return tree_leaves(outputs), torch.autograd.grad(_loss(outputs), list(model.parameters()))


def check_gradients(model: nn.Module, images: Tensor) -> None:
    """Every parameter is reached in training; one that is not would stop training on several GPUs."""
    model.train()
    model.zero_grad()
    _loss(model(images)).backward()
    unreached = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unreached, unreached
    assert all(p.grad.isfinite().all() for p in model.parameters())


def check_autocast(model: nn.Module, images: Tensor, dtype: torch.dtype) -> None:
    """Mixed precision gives nearly the same outputs, and gradients that point the same way."""
    error, cosine = {torch.bfloat16: (.05, .8), torch.float16: (.03, .97)}[dtype]
    outputs, gradients = [], []
    for training in (False, True):
        model.train(training)
        for enabled in (False, True):
            with torch.autocast('cpu', dtype, enabled=enabled):
                found, slopes = _gradients(model, images)
            if training:
                gradients.append(torch.cat([each.flatten() for each in slopes]))
            else:
                outputs.append(found)
    for expected, ours in zip(*outputs, strict=True):
        assert (ours.float() - expected).abs().max() < error * expected.abs().max()
    assert torch.cosine_similarity(*gradients, dim=0) > cosine


def check_one_graph(model: nn.Module, images: Tensor) -> None:
    """``torch.compile`` takes the network as one graph, with the same outputs and gradients.

    In the operators that inductor compiles, without its kernels, which take minutes to build.
    """
    model.train()
    compiled = torch.compile(copy.deepcopy(model), backend='aot_eager_decomp_partition', fullgraph=True)
    outputs, gradients = _gradients(model, images)
    same_outputs, same_gradients = _gradients(compiled, images)
    for ours, expected in zip([*same_outputs, *same_gradients], [*outputs, *gradients], strict=True):
        scale = expected.abs().max().item()
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4 * max(scale, 1e-3))
    torch.compiler.reset()


def check_onnx(model: nn.Module, images: Tensor, path: Path) -> None:
    """ONNX Runtime computes the same within 1e-4 of the largest output, for another number of images too."""
    model.eval()
    torch.onnx.export(model, (images, ), path, input_names=['images'], dynamic_axes={'images': [0]}, dynamo=False)
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    for batch in (images, torch.cat([images, -images])):
        with torch.no_grad():
            wanted = tree_leaves(model(batch))
        for ours, expected in zip(session.run(None, {'images': batch.numpy()}), wanted, strict=True):
            assert np.abs(ours - expected.numpy()).max() <= 1e-4 * expected.abs().max().item()
