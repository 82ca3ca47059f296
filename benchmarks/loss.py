"""SparseSoftTargetLoss against the same loss with a dense target: time and memory of a forward and backward pass.

    python benchmarks/loss.py [--batch-size 128 1024] [--temperature 1 4] [--device cuda]

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


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch-size', type=int, nargs='+', default=[128, 1024])
    parser.add_argument('--num-classes', type=int, default=21_841)
    parser.add_argument('--topk', type=int, default=100)
    parser.add_argument('--temperature', type=float, nargs='+', default=[1.])
    parser.add_argument('--repeats', type=int, default=15)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--json', metavar='FILE', help='add the tables to this file')
    return parser.parse_args()


def record(batch: int, num_classes: int, topk: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Index ``(B, K)``, log-probability ``(B, K)`` and tail mass ``(B,)`` of random normal logits."""
    log_prob, index = (2 * torch.randn(batch, num_classes, device=device)).log_softmax(1).topk(topk)
    return index, log_prob, (1 - log_prob.exp().sum(1)).clamp_(min=0)


def dense_target(index: Tensor, log_prob: Tensor, tail_mass: Tensor, num_classes: int, temperature: float) -> Tensor:
    """The recovered target ``(B, C)``."""
    others = num_classes - index.shape[1]
    log_rest = (tail_mass / others).log() / temperature
    scaled = torch.cat([log_prob / temperature, log_rest[:, None] + math.log(others)], 1).softmax(1)  # (B, K + 1)
    target = (scaled[:, -1:] / others).repeat(1, num_classes)
    return target.scatter_(1, index, scaled[:, :-1])


def step(loss: Callable[[Tensor], Tensor], logits: Tensor) -> Callable[[], Tensor]:
    """One forward and backward pass; returns the gradient."""

    def run() -> Tensor:
        logits.grad = None
        loss(logits).backward()
        return logits.grad

    return run


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    for batch in args.batch_size:
        for temperature in args.temperature:
            torch.manual_seed(0)
            records = record(batch, args.num_classes, args.topk, args.device)
            logits = torch.randn(batch, args.num_classes, device=args.device, requires_grad=True)
            sparse = SparseSoftTargetLoss(temperature)
            t = temperature

            def dense(z: Tensor, t: float = t, records: tuple = records) -> Tensor:
                return F.cross_entropy(z / t, dense_target(*records, args.num_classes, t)) * t**2

            def written_out(z: Tensor, t: float = t, records: tuple = records) -> Tensor:
                target = dense_target(*records, args.num_classes, t)
                return -(target * (z / t).log_softmax(1)).sum(1).mean() * t**2

            steps = {'sparse': step(lambda z, r=records, s=sparse: s(z, *r), logits), 'dense': step(dense, logits),
                     'log-softmax': step(written_out, logits)}
            gradients = {name: run().clone() for name, run in steps.items()}
            error = max((gradients[name] - gradients['sparse']).abs().max().item() for name in steps)
            if error > 1e-6:
                raise SystemExit(f'The gradients differ by {error:.1e}.')
            del gradients
            results = compare(steps, args.repeats)
            for name, run in steps.items():
                results[name]['peak_bytes'] = peak_bytes(run)
            report(f'forward and backward, B={batch}, C={args.num_classes:,}, K={args.topk}, T={temperature:g}, '
                   f'{args.device}', results, args.json, batch_size=batch, temperature=temperature)


if __name__ == '__main__':
    main()
