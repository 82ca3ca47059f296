"""The drawings of the documentation: ``python docs/pictures.py`` writes them to docs/en/images.

They are plain SVG on a white ground, so that they read the same in a light and in a dark theme, on GitHub, and without
a network.
"""
import math
from collections.abc import Iterable
from html import escape
from pathlib import Path

import yaml

__all__ = ['DRAWINGS', 'Drawing']

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / 'docs/en/images'
WIDTH = 680  # pixels, that of the text column
INK, GREY, LINE = '#1f2937', '#6b7280', '#4b5563'
BLUE, GREEN, AMBER, ROSE, PLAIN = '#dbeafe', '#dcfce7', '#fef3c7', '#ffe4e6', '#f3f4f6'


class Drawing:
    """Boxes, arrows and text.

    Args:
        height: In pixels.
        title: What it shows, for those who cannot see it.
    """

    def __init__(self, height: int, title: str) -> None:
        self.height, self.title = height, title
        self.parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, fill: str = BLUE, stroke: str = LINE,
             radius: float = 6) -> None:
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" '
                          f'fill="{fill}" stroke="{stroke}"/>')

    def text(self, x: float, y: float, text: str, size: float = 15, anchor: str = 'middle', color: str = INK,
             weight: str = 'normal', family: str = 'sans-serif') -> None:
        self.parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}" fill="{color}" '
                          f'font-weight="{weight}" font-family="{family}">{escape(text)}</text>')

    def box(self, x: float, y: float, width: float, height: float, head: str, *lines: str, fill: str = BLUE,
            family: str = 'sans-serif') -> None:
        """A box with a bold line and smaller ones below it, in its middle."""
        self.rect(x, y, width, height, fill)
        top = y + height / 2 + 5 - 9 * len(lines)
        self.text(x + width / 2, top, head, weight='bold')
        for row, line in enumerate(lines, 1):
            self.text(x + width / 2, top + 18 * row, line, 13, family=family)

    def arrow(self, *points: tuple[float, float], label: str = '', at: tuple[float, float] | None = None) -> None:
        """Along all points; the label's middle is ``at``, by default above the middle of the first piece."""
        path = ' '.join(f'{x:g},{y:g}' for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.5" '
                          'marker-end="url(#head)"/>')
        if label:
            (x0, y0), (x1, y1) = points[:2]
            x, y = at or ((x0 + x1) / 2, (y0 + y1) / 2 - 6)
            self.text(x, y, label, 13, color=GREY)

    def line(self, x0: float, y0: float, x1: float, y1: float, color: str = LINE) -> None:
        self.parts.append(f'<line x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}" stroke="{color}"/>')

    def svg(self) -> str:
        return '\n'.join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" '
            f'height="{self.height}" role="img">',
            f'<title>{escape(self.title)}</title>',
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            f'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{LINE}"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{self.height}" rx="10" fill="#ffffff"/>', *self.parts, '</svg>', ''])


# ---------------------------------------------------------------- distillation
def flow() -> Drawing:
    draw = Drawing(330, 'A teacher fills a store, and students train from it')
    draw.box(16, 20, 140, 64, 'images', 'labels not needed', fill=PLAIN)
    draw.box(265, 20, 150, 64, 'teacher', 'sees each view once', fill=AMBER)
    draw.box(494, 20, 170, 64, 'store', 'top K and tail mass', 'of every view', fill=GREEN)
    draw.box(265, 134, 150, 64, 'students', 'one or many')
    draw.arrow((156, 52), (265, 52), label='views')
    draw.arrow((415, 52), (494, 52), label='save')
    draw.arrow((86, 84), (86, 166), (265, 166), label='the same views', at=(175, 159))
    draw.arrow((579, 84), (579, 166), (415, 166), label='targets', at=(497, 159))
    for x, head, line in ((16, 'finetune', 'own classes, 384 px'), (245, 'detect, segment', 'COCO, ADE20K'),
                          (474, 'deploy', 'one file, ONNX')):
        draw.arrow((340, 198), (340, 226), (x + 95, 226), (x + 95, 252))
        draw.box(x, 252, 190, 58, head, line, fill=PLAIN)
    return draw


def view() -> Drawing:
    draw = Drawing(250, 'A view is a function of its name and its image')
    draw.box(16, 20, 176, 76, 'name', 'base_seed, view, key', '0, 3, n01/1.JPEG', fill=PLAIN)
    draw.box(16, 150, 176, 76, 'image', 'n01/1.JPEG', fill=PLAIN)
    draw.box(246, 28, 150, 60, 'seed', 'hash of the name')
    draw.box(236, 150, 170, 76, 'SeededAugment', 'crop, flip, colours,', 'drawn from the seed')
    draw.box(456, 150, 88, 76, 'view', '8-bit', 'pixels', fill=GREEN)
    draw.box(570, 84, 98, 70, 'teacher', 'its own mean', 'and size', fill=AMBER)
    draw.box(570, 168, 98, 70, 'student', 'its own mean', 'and size', fill=BLUE)
    draw.arrow((192, 58), (246, 58))
    draw.arrow((321, 88), (321, 150))
    draw.arrow((192, 188), (236, 188))
    draw.arrow((406, 188), (456, 188))
    draw.arrow((500, 150), (500, 119), (570, 119))
    draw.arrow((544, 203), (570, 203))
    return draw


def target() -> Drawing:
    """Of nine classes, three are stored."""
    probabilities = [('tabby', .48), ('tiger cat', .26), ('lynx', .08)]
    others, tail = 6, 0.18
    draw = Drawing(300, 'Three stored probabilities, and the tail mass spread over the other classes')
    base, scale, step = 220, 340, 62
    for row, (name, value) in enumerate([*probabilities, *[('', tail / others)] * others]):
        x = 64 + step * row
        draw.rect(x, base - scale * value, 40, scale * value, BLUE if name else ROSE, radius=0)
        draw.text(x + 20, base - scale * value - 8, f'{value:.2f}', 14)
        draw.text(x + 20, base + 20, name, 13)
    draw.line(48, base, 648, base)
    for x0, x1, words in ((56, 236, ('stored: top K classes', 'and their probabilities')),
                          (242, 608, ('stored: the tail mass, 0.18, as one number',
                                      'spread evenly over the other C - K classes'))):
        y = base + 32
        draw.line(x0, y, x1, y)
        draw.line(x0, y - 6, x0, y)
        draw.line(x1, y - 6, x1, y)
        for row, text in enumerate(words, 1):
            draw.text((x0 + x1) / 2, y + 18 * row, text, 13)
    return draw


def ensemble() -> Drawing:
    draw = Drawing(214, 'Several teachers saved as one')
    draw.box(16, 72, 104, 70, 'view', '8-bit pixels', fill=GREEN)
    for y, name, weight in ((20, 'teacher 1', '0.6'), (132, 'teacher 2', '0.4')):
        draw.box(160, y, 150, 62, name, 'own mean and size', fill=AMBER)
        draw.arrow((120, 107), (140, 107), (140, y + 31), (160, y + 31))
        draw.arrow((310, y + 31), (370, y + 31), (370, 107), (400, 107), label=weight, at=(340, y + 24))
    draw.box(400, 72, 130, 70, 'mean', 'weighted')
    draw.box(570, 72, 94, 70, 'store', 'top K and', 'tail mass', fill=GREEN)
    draw.arrow((530, 107), (570, 107))
    return draw


# ---------------------------------------------------------------- data
def layouts() -> Drawing:
    rows = [('folders', 'n01440764/1.JPEG', 'a folder per class, or any folders'),
            ('class-archives', 'n01440764.tar: 1.JPEG', 'a tar or zip file per class, or a tar of tars'),
            ('archive', 'train.zip: n01440764/1.JPEG', 'one archive with folders'),
            ('shards', '0000.tar: 123.jpg, 123.cls', 'WebDataset, img2dataset')]
    draw = Drawing(316, 'Every layout becomes one index')
    for row, (name, example, words) in enumerate(rows):
        y = 16 + 72 * row
        draw.rect(16, y, 310, 62, PLAIN)
        draw.text(28, y + 19, name, 15, 'start', weight='bold')
        draw.text(28, y + 37, example, 13, 'start', family='monospace')
        draw.text(28, y + 54, words, 12, 'start', GREY)
        draw.arrow((326, y + 31), (352, y + 31), (352, 158), (376, 158))
    draw.box(376, 104, 126, 108, 'images.index', 'archive,', 'first byte, length,', 'CRC, label', fill=GREEN)
    draw.box(528, 116, 140, 84, 'IndexedImages', 'reads the bytes', 'of one image')
    draw.arrow((502, 158), (528, 158))
    draw.text(526, 250, 'the same key in each layout but shards:', 13, color=GREY)
    draw.text(526, 270, 'n01440764/1.JPEG', 13, family='monospace')
    return draw


# ---------------------------------------------------------------- stores
def units() -> Drawing:
    colors = [BLUE, AMBER, ROSE]
    draw = Drawing(270, 'The units of a store, shared out over three parts')
    draw.text(190, 24, 'shards: ranges of samples', 13, color=GREY)
    for view_ in range(4):
        draw.text(52, 62 + 44 * view_, f'view {view_}', 13, color=GREY)
        for shard in range(5):
            draw.rect(88 + 50 * shard, 38 + 44 * view_, 44, 38, colors[(5 * view_ + shard) % 3], radius=3)
    draw.text(212, 236, 'a square is a unit: one shard of one view', 13, color=GREY)
    for part in range(3):
        y = 38 + 60 * part
        draw.box(370, y, 120, 44, f'job {part}', f'--part {part}/3', fill=colors[part], family='monospace')
        draw.arrow((490, y + 22), (514, y + 22), (514, 120), (544, 120))
    draw.box(544, 80, 120, 80, 'store', 'a folder', 'or a URL', fill=GREEN)
    draw.text(517, 236, 'the bytes are those of a single job', 13, color=GREY)
    return draw


def cache() -> Drawing:
    draw = Drawing(230, 'A store at a URL is read through a cache of whole files')
    draw.box(16, 60, 160, 104, 's3://bucket/store', 'manifest', 'samples files', 'shards', fill=GREEN)
    draw.rect(262, 20, 402, 192, '#ffffff', GREY)
    draw.text(463, 40, 'one machine', 13, color=GREY)
    draw.box(296, 62, 134, 100, 'cache', 'files that passed', 'their checksums', fill=BLUE)
    draw.arrow((176, 112), (296, 112), label='fetch once', at=(218, 104))
    for row, name in enumerate(('rank 0, its workers', 'rank 1, its workers', 'another training')):
        y = 52 + 46 * row
        draw.rect(500, y, 150, 36, PLAIN)
        draw.text(575, y + 23, name, 13)
        draw.arrow((430, 112), (464, 112), (464, y + 18), (500, y + 18))
    draw.text(463, 202, 'memory-mapped', 13, color=GREY)
    return draw


# ---------------------------------------------------------------- labels
def label_layouts() -> Drawing:
    chain = [('fall11-google', 21843, ROSE), ('fall11', 21841, BLUE), ('winter21', 19167, BLUE),
             ('in12k', 11821, GREEN), ('fall11-p', 11221, AMBER), ('winter21-p', 10450, PLAIN), ('in1k', 1000, ROSE)]
    draw = Drawing(26 + 40 * len(chain), 'Sizes of the label layouts')
    for row, (name, number, fill) in enumerate(chain):
        y, width = 18 + 40 * row, 450 * number / chain[0][1]
        draw.text(124, y + 20, name, 14, 'end', family='monospace')
        draw.rect(134, y, width, 30, fill, radius=2)
        draw.text(142 + width, y + 20, f'{number:,}', 14, 'start')
    return draw


# ---------------------------------------------------------------- finetuning, models
def layer_rates() -> Drawing:
    """``layer_decay_rate=0.8`` over the 12 blocks of TinyViT-21M: 2, 2, 6 and 2."""
    draw = Drawing(250, 'The learning rate of each block')
    base, scale = 196, 150
    bars = [('stem', 11), *((str(block), 11 - block) for block in range(12)), ('head', 0)]
    draw.text(36, 24, 'share of the learning rate', 13, 'start', GREY)
    for row, (name, power) in enumerate(bars):
        x, share = 36 + 44 * row, .8 ** power
        draw.rect(x, base - scale * share, 34, scale * share, BLUE if name.isdigit() else AMBER, radius=0)
        draw.text(x + 17, base - scale * share - 6, f'{share:.2f}', 12)
        draw.text(x + 17, base + 18, name, 13)
    draw.line(26, base, 654, base)
    draw.text(340, base + 40, 'blocks, from the image to the head', 13, color=GREY)
    return draw


def published() -> Iterable[tuple[str, float, float]]:
    """Name, multiply-adds in G and top-1 in percent of the published models with an accuracy on ImageNet-1K."""
    for family in ('tinyvit', 'deit'):
        for entry in yaml.safe_load((ROOT / f'configs/{family}/metafile.yml').read_text())['Models']:
            result = entry['Results'][0]
            if result['Dataset'] == 'ImageNet-1k':
                yield entry['Name'], entry['Metadata']['FLOPs'] / 1e9, result['Metrics']['Top 1 Accuracy']


def zoo() -> Drawing:
    draw = Drawing(400, 'Published accuracy against multiply-adds')
    left, right, top, bottom = 60, 650, 44, 340
    low, high = 70, 88

    def place(macs: float, top1: float) -> tuple[float, float]:
        share = math.log2(macs) / 6  # from 1 to 64 G
        return left + share * (right - left), bottom - (top1 - low) / (high - low) * (bottom - top)

    for power in range(7):
        x, _ = place(2 ** power, low)
        draw.line(x, top, x, bottom, '#e5e7eb')
        draw.text(x, bottom + 20, str(2 ** power), 13)
    for top1 in range(low, high + 1, 3):
        _, y = place(1, top1)
        draw.line(left, y, right, y, '#e5e7eb')
        draw.text(left - 8, y + 5, str(top1), 13, 'end')
    draw.text((left + right) / 2, bottom + 44, 'multiply-adds per image (G)', 13)
    draw.text(left, 26, 'top-1 on ImageNet-1K (%), published', 13, 'start')
    kinds = [('TinyViT, ImageNet-21K first', '#1d4ed8'), ('TinyViT, ImageNet-1K alone', '#60a5fa'),
             ('DeiT, distilled', '#b45309'), ('DeiT', '#fbbf24')]
    for row, (kind, color) in enumerate(kinds):
        draw.rect(452, 246 + 22 * row, 12, 12, color, color)
        draw.text(472, 257 + 22 * row, kind, 13, 'start')
    for name, macs, top1 in published():
        deit, plain = 'deit' in name, 'distill' not in name
        color = kinds[2 * deit + plain][1]
        x, y = place(macs, top1)
        draw.rect(x - 6, y - 6, 12, 12, color, color)
        size = name.split('-')[2 if deit else 1].partition('_')[0] + (', ' + name[-5:] if name.endswith('px') else '')
        ahead = not deit or x > right - 60
        draw.text(x - 11 if ahead else x + 11, y + 5, size, 12, 'end' if ahead else 'start')
    return draw


DRAWINGS = dict(flow=flow, view=view, target=target, ensemble=ensemble, layouts=layouts, units=units, cache=cache,
                label_layouts=label_layouts, layer_rates=layer_rates, zoo=zoo)

if __name__ == '__main__':
    for name, draw in DRAWINGS.items():
        (IMAGES / f'{name}.svg').write_text(draw().svg())
