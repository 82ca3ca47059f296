"""SparseSoftTargetLoss against the same loss with a dense target: time and memory of a forward and backward pass.

    python benchmarks/loss.py [--quick] [--batch-size 128 1024] [--device cuda]

`dense` scatters the record into a (B, C) target and calls PyTorch's cross-entropy with probabilities, which is what
mixed labels go through in most training code; `log-softmax` writes the same out as -(target * log_softmax(z)).sum().
"""
import argparse
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from harness import compare, peak_bytes, report
from torch import Tensor

from mmtinyvit.models.losses import SparseSoftTargetLoss
from mmtinyvit.store import Record


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch-size', type=int, nargs='+', default=[128, 1024])
    parser.add_argument('--num-classes', type=int, default=21_841)
    parser.add_argument('--topk', type=int, default=100)
    parser.add_argument('--temperature', type=float, default=4., help='of the variant with one')
    parser.add_argument('--label-smoothing', type=float, default=0.1, help='of the variant with it')
    parser.add_argument('--repeats', type=int, default=15)
    parser.add_argument('--quick', action='store_true', help='one batch size, few repeats')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--json', metavar='FILE', help='add the tables to this file')
    return parser.parse_args()


def random_record(batch: int, num_classes: int, topk: int, device: str) -> Record:
    """Of random normal logits."""
    log_prob, index = (2 * torch.randn(batch, num_classes, device=device)).log_softmax(1).topk(topk)
    return Record(index, log_prob, (1 - log_prob.exp().sum(1)).clamp_(min=0))


def dense_target(record: Record, num_classes: int, temperature: float, smoothing: float) -> Tensor:
    """The recovered target ``(B, C)``."""
    index, log_prob, tail_mass, _ = record
    others = num_classes - index.shape[1]
    if temperature == 1:
        target = (tail_mass / others)[:, None].repeat(1, num_classes).scatter_(1, index, log_prob.exp())
    else:
        log_rest = (tail_mass / others).log() / temperature
        scaled = torch.cat([log_prob / temperature, log_rest[:, None] + math.log(others)], 1).softmax(1)  # (B, K + 1)
        target = (scaled[:, -1:] / others).repeat(1, num_classes).scatter_(1, index, scaled[:, :-1])
    return target.mul_(1 - smoothing).add_(smoothing / num_classes) if smoothing else target


def step(loss: Callable[[Tensor], Tensor], logits: Tensor) -> Callable[[], Tensor]:
    """One forward and backward pass; returns the gradient."""

    def run() -> Tensor:
        logits.grad = None
        loss(logits).backward()
        return logits.grad

    return run


def main() -> None:
    args = parse_args()
    if args.quick:
        args.batch_size, args.repeats = args.batch_size[:1], min(args.repeats, 7)
    torch.set_num_threads(args.threads)
    variants = {'': (1., 0.), f', temperature {args.temperature:g}': (args.temperature, 0.),
                f', label smoothing {args.label_smoothing:g}': (1., args.label_smoothing)}
    for batch in args.batch_size:
        torch.manual_seed(0)
        record = random_record(batch, args.num_classes, args.topk, args.device)
        logits = torch.randn(batch, args.num_classes, device=args.device, requires_grad=True)
        for variant, (temperature, smoothing) in variants.items():
            title = f'forward and backward, B={batch}, C={args.num_classes:,}, K={args.topk}{variant}, {args.device}'
            report(title, measure(record, logits, temperature, smoothing, args.repeats), args.json, batch_size=batch,
                   temperature=temperature, label_smoothing=smoothing)


def measure(record: Record, logits: Tensor, temperature: float, smoothing: float,
            repeats: int) -> dict[str, dict]:
    """Time and memory of the three; refuses to time losses whose gradients differ."""
    sparse = SparseSoftTargetLoss(temperature, label_smoothing=smoothing)

    def scaled(z: Tensor) -> Tensor:
        return z if temperature == 1 else z / temperature

    def dense(z: Tensor) -> Tensor:
        target = dense_target(record, z.shape[1], temperature, smoothing)
        return F.cross_entropy(scaled(z), target) * temperature**2

    def written_out(z: Tensor) -> Tensor:
        target = dense_target(record, z.shape[1], temperature, smoothing)
        return -(target * scaled(z).log_softmax(1)).sum(1).mean() * temperature**2

    steps = {'sparse': step(lambda z: sparse(z, record), logits), 'dense': step(dense, logits),
             'log-softmax': step(written_out, logits)}
    gradients = {name: run().clone() for name, run in steps.items()}
    error = max((gradient - gradients['sparse']).abs().max().item() for gradient in gradients.values())
    if error > 1e-6:
        raise SystemExit(f'The gradients differ by {error:.1e}.')
    results = compare(steps, repeats)
    for name, run in steps.items():
        logits.grad = None
        results[name]['peak_bytes'] = peak_bytes(run)
    return results


if __name__ == '__main__':
    main()
