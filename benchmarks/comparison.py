"""Write docs/en/comparison.md: what every small backbone costs, beside its neighbours in timm and mmpretrain.

    python benchmarks/comparison.py            # a quarter of an hour on 2 idle cores
    python benchmarks/comparison.py --quick    # a minute or two; two images at once and one round
    python benchmarks/comparison.py --count    # half a minute; parameters and MACs alone
    python benchmarks/comparison.py --picture  # seconds; the picture, from the page that is there

Parameters and MACs are counted, images per second are measured with random weights in eval mode: on the CPU, and on a
GPU in mixed precision if there is one. The networks of a family are timed in turn, round after round.
"""
import argparse
import gc
from collections.abc import Callable
from pathlib import Path
from textwrap import fill

import torch
from comparison_networks import FAMILIES, Network
from comparison_picture import draw
from harness import compare, machine
from rich.progress import track
from torch import nn

from mmtinyvit.apis.networks import count_macs, count_parameters
from mmtinyvit.cli.command import run_command

PAGE = Path(__file__).resolve().parents[1] / 'docs/en/comparison.md'
HEAD = '''# Comparison

This page lists the cost and the published accuracy of the small backbones of this library, beside the same or
similar ones of timm and mmpretrain. Read it to choose a network. One command writes the page:

```shell
python benchmarks/comparison.py
```

{picture}**Accuracies are published ones; none was measured here.** Those of this library's networks are from the
papers (TinyViT: distilled on ImageNet-21K and finetuned), those of mmpretrain's from its metafiles. timm
ships none.

Parameters and multiply-accumulates (MACs) are counted, with 1,000 classes and for one image of the given
side. MACs are those of convolutions, linear layers and attention. Figures published for TopFormer and
Mobile-Former count norms too, which adds 2 to 10 %.

{speed}
'''
SPEED = ('Images per second are measured in eval mode with random weights: on the CPU with {images} images of 224 '
         'pixels at once, and as many pixels of other sizes; the median of {repeats} rounds. {gpu} Machine: {machine}.')
PICTURE = '![Published top-1 over images per second on the CPU](images/comparison.svg)\n\n'


def measure(networks: list[Network], batch_size: int, repeats: int, device: str) -> list[float]:
    """Images per second of each; larger images come in smaller batches."""
    calls, batches = {}, []
    for network in networks:
        model = network.build()
        model.eval()
        model.to(device)
        batches.append(max(batch_size * 224**2 // network.side**2, 1))
        images = torch.randn(batches[-1], 3, network.side, network.side, device=device)
        calls[f'{network.library} {network.name}'] = forward(model, images)
    times = compare(calls, repeats=repeats, warmup=1)
    return [batch / times[name]['median_s'] for name, batch in zip(calls, batches, strict=True)]


def forward(model: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    """One pass over the images."""

    def run() -> None:
        with torch.inference_mode(), torch.autocast('cuda', enabled=images.is_cuda):
            model(images)

    return run


def row(network: Network, speeds: list[float]) -> str:
    model = network.build()
    model.eval()
    cells = [network.name, network.library, network.side, f'{count_parameters(model) / 1e6:.2f}',
             f'{count_macs(model, (network.side, network.side)) / 1e9:.3f}', *(f'{speed:.3g}' for speed in speeds),
             '' if network.top1 is None else f'{network.top1:.1f}']
    return f'| {" | ".join(map(str, cells))} |'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='two images at once, one round')
    parser.add_argument('--count', action='store_true', help='count, and measure nothing')
    parser.add_argument('--picture', action='store_true', help='draw the picture from the page, and measure nothing')
    parser.add_argument('--threads', type=int, default=2, help='threads on the CPU (default: 2)')
    parser.add_argument('--out', type=Path, default=PAGE, help='the page (default: docs/en/comparison.md)')
    args = parser.parse_args()
    picture = args.out.parent / 'images/comparison.svg'
    if args.picture:
        draw(args.out, picture)
        return
    torch.set_num_threads(args.threads)
    devices = {'CPU': 'cpu'} | ({'GPU': 'cuda'} if torch.cuda.is_available() else {})
    images, repeats = {'CPU': 2 if args.quick else 8, 'GPU': 128}, 1 if args.quick else 5
    gpu = (f'On the GPU {images["GPU"]} images in mixed precision.' if 'GPU' in devices else
           'There was no GPU to measure on.')
    speed = fill(SPEED.format(images=images['CPU'], repeats=repeats, gpu=gpu, machine=machine()), 110)
    if args.count:
        devices, speed = {}, 'Nothing was timed when this page was written.'
    columns = ['network', 'library', 'side (px)', 'parameters (M)', 'MACs (G)',
               *(f'{name} images/s' for name in devices), 'published top-1 (%)']
    text = HEAD.format(speed=speed, picture=PICTURE if devices else '')
    for family, networks in track(FAMILIES.items(), 'Comparing'):
        speeds = [measure(networks, images[name], repeats, device) for name, device in devices.items()]
        text += f'\n## {family}\n\n| {" | ".join(columns)} |\n|{"---|" * len(columns)}\n'
        text += ''.join(row(network, list(each)) + '\n' for network, *each in zip(networks, *speeds, strict=True))
        gc.collect()
    args.out.write_text(text)
    if devices:
        picture.parent.mkdir(exist_ok=True)
        draw(args.out, picture)
    print(f'Written: {args.out}')


if __name__ == '__main__':
    run_command(main)
