"""What does TinyMIM cost: its loss, a step of training, and the teacher's tokens if they were kept on disk?

    python benchmarks/tinymim.py [loss] [step] [cache] [--batch 8] [--json FILE]

`loss` and `step` compare with a straightforward implementation, which keeps every relation for the backward pass, and
runs the teacher to its end. `cache` measures what asking the teacher again costs, and what reading its queries, keys
and values back would: bytes per view, and the throughput that the disk would have to give. On a GPU if there is one.
"""
import argparse
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import compare, peak_bytes, report
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from mmtinyvit.cli.command import run_command
from mmtinyvit.models.losses import RelationDistillationLoss
from mmtinyvit.models.selfsup import TinyMIM
from mmtinyvit.models.selfsup.taps import tap_vit

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
IMAGES, VIEWS, TOKENS = 1_281_167, 300, 197
TEACHERS = {  # width, heads, target block
    'small': (384, 6, 12),
    'base': (768, 12, 12),
    'large': (1024, 16, 18),
}


def straightforward_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The same loss with the usual functions: each relation is a tensor, kept until the backward pass."""
    total = 0.
    for i, j in ((0, 1), (2, 2)):
        ours = (student[i] @ student[j].mT * student.shape[-1]**-0.5).log_softmax(-1)
        theirs = (teacher[i] @ teacher[j].mT * teacher.shape[-1]**-0.5).log_softmax(-1)
        total = total + F.kl_div(ours, theirs, reduction='none', log_target=True).sum(-1).mean()
    return total


def kept_bytes(function) -> int:
    """What autograd keeps for the backward pass beside the parameters, each storage once."""
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.update({t.untyped_storage().data_ptr(): t}) or t, lambda t: t):
        result = function()  # noqa: F841  the graph holds what it saved until here
    return sum(t.untyped_storage().nbytes() for t in kept.values() if not is_parameter(t))


def is_parameter(tensor: Tensor) -> bool:
    return tensor.is_leaf and tensor.requires_grad and tensor.ndim < 5 or tensor._base is not None and is_parameter(
        tensor._base)


def measure(functions: dict, forwards: dict, repeats: int) -> dict[str, dict]:
    results = compare(functions, repeats, warmup=1)
    for name, function in functions.items():
        results[name] |= dict(peak_bytes=peak_bytes(function), kept_bytes=kept_bytes(forwards[name]))
    return results


def loss(args: argparse.Namespace) -> None:
    """Forward and backward of QK and VV, heads and width of ViT-B."""
    student = torch.randn(3, args.batch, 12, TOKENS, 64, device=DEVICE, requires_grad=True)
    teacher = torch.randn(3, args.batch, 12, TOKENS, 64, device=DEVICE)
    module = RelationDistillationLoss()
    forwards = {'ours': lambda: sum(module(student, teacher).values()),
                'straightforward': lambda: straightforward_loss(student, teacher)}
    ours, theirs = (forward() for forward in forwards.values())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    functions = {name: (lambda f=forward: torch.autograd.grad(f(), student)) for name, forward in forwards.items()}
    report(f'relations QK and VV, 12 heads, {TOKENS} tokens, batch {args.batch}, forward and backward',
           measure(functions, forwards, args.repeats), args.json, batch=args.batch)


def step(args: argparse.Namespace) -> None:
    """Forward and backward of a whole step, MAE ViT-L to ViT-B and MAE ViT-B to ViT-T."""
    for name, arch, heads, (_, teacher_heads, block) in (('large', 'deit-base', 12, TEACHERS['large']),
                                                         ('base', 'deit-tiny', 6, TEACHERS['base'])):
        layer_cfgs = [*[dict(num_heads=heads)] * 11, dict(num_heads=teacher_heads)]
        teacher = MODELS.build(dict(type='VisionTransformer', arch=name))
        teacher.requires_grad_(False).eval()
        algorithm = TinyMIM(dict(type='MAEViT', arch=arch, layer_cfgs=layer_cfgs),
                            dict(backbone=teacher, block=block)).to(DEVICE)
        student = algorithm.backbone
        teacher.to(DEVICE)
        images = torch.randn(args.batch, 3, 224, 224, device=DEVICE)
        seen: dict[str, Tensor] = {}
        for key, layer in (('ours', student.layers[-1]), ('theirs', teacher.layers[block - 1])):
            layer.attn.qkv.register_forward_hook(lambda m, i, o, key=key, seen=seen: seen.update({key: o}))

        def split(qkv: Tensor, heads: int) -> Tensor:
            return qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)

        def whole(student=student, teacher=teacher, images=images, seen=seen, heads=teacher_heads) -> Tensor:
            with torch.no_grad():
                teacher(images)
            student(images, mask=None)
            return straightforward_loss(split(seen['ours'], heads), split(seen['theirs'], heads))

        def ours(algorithm=algorithm, images=images) -> Tensor:
            return sum(algorithm.loss(images, []).values())

        precision = torch.autocast('cuda', torch.bfloat16) if DEVICE == 'cuda' else nullcontext()
        with precision:
            forwards = {'ours': ours, 'straightforward': whole}
            functions = {key: (lambda f=forward: f().backward()) for key, forward in forwards.items()}
            report(f'a step, MAE {name} (block {block}) to {arch}, batch {args.batch}',
                   measure(functions, forwards, max(3, args.repeats // 3)), args.json, batch=args.batch)


def cache(args: argparse.Namespace) -> None:
    """Asking a teacher again, against reading what it said."""
    rows = {}
    for name, (width, _, block) in TEACHERS.items():
        size = 3 * TOKENS * width * 2  # float16
        teacher = MODELS.build(dict(type='VisionTransformer', arch='deit-small' if name == 'small' else name))
        teacher.to(DEVICE).eval()
        images = torch.randn(args.batch, 3, 224, 224, device=DEVICE)
        precision = torch.autocast('cuda', torch.bfloat16) if DEVICE == 'cuda' else nullcontext()
        with torch.no_grad(), precision:
            asking = compare({name: lambda t=teacher, b=block, x=images: tap_vit(t, x, b, ['qkv'])}, 3, 1)[name]
        seconds = asking['median_s'] / args.batch
        rows[f'ViT-{name}, block {block}'] = dict(
            view_bytes=size, imagenet_tb=IMAGES * size / 1e12, imagenet_300_views_tb=IMAGES * VIEWS * size / 1e12,
            asking_s=seconds, reading_s=reading(size), disk_must_give_gb=size / seconds / 1e9)
    report('the teacher asked again, and its queries, keys and values read from disk, per view', rows, args.json)


def reading(size: int, views: int = 64) -> float:
    """Seconds to read one view of ``size`` bytes in random order, into a tensor; the system's cache is warm."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'views')
        with open(path, 'wb') as file:
            for _ in range(views):
                file.write(torch.randint(0, 256, (size, ), dtype=torch.uint8).numpy().tobytes())
        start = time.perf_counter()
        with open(path, 'rb') as file:
            for view in torch.randperm(views).tolist():
                file.seek(view * size)
                torch.frombuffer(bytearray(file.read(size)), dtype=torch.float16).float()
        return (time.perf_counter() - start) / views


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = dict(loss=loss, step=step, cache=cache)
    parser.add_argument('parts', nargs='*', metavar='PART', help=f'some of {", ".join(parts)}; all by default')
    parser.add_argument('--batch', type=int, default=8 if DEVICE == 'cpu' else 32)
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('--json', help='file to add the numbers to')
    args = parser.parse_args()
    if not set(args.parts) <= parts.keys():
        parser.error(f'choose from {", ".join(parts)}')
    init_default_scope('mmpretrain')
    for name in args.parts or parts:
        parts[name](args)


if __name__ == '__main__':
    run_command(main)
