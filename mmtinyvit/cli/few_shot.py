"""How well do frozen features serve new classes, with a few labelled images of each?

    mmtinyvit few-shot configs/imagenette/mobilenetv2.py MOBILENETV2.pth --way 5 --shot 1 5 20

Draws episodes of N classes with k labelled images of each (N-way, k-shot), classifies others by them, and prints the
mean accuracy with its 95 % interval. The images are the test data of the config, or the class folders below --data.
"""
import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from mmtinyvit.errors import UserError

from .command import add_common_flags, write_json
from .tables import print_tables, row_table

__all__ = ['build_parser', 'main']

CLASSIFIERS = ['centroid', 'logistic']


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Few-shot accuracy of frozen features.')
    add_common_flags(parser)
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--data', metavar='FOLDER', help='one folder of images per class, instead of the test data')
    parser.add_argument('--way', type=int, nargs='+', default=[5], metavar='N',
                        help='classes of an episode (default: 5)')
    parser.add_argument('--shot', type=int, nargs='+', default=[1, 5], metavar='K',
                        help='labelled images of each class (default: 1 5)')
    parser.add_argument('--query', type=int, default=15, help='images of each class to classify (default: 15)')
    parser.add_argument('--episodes', type=int, default=600, help='how many to draw (default: 600)')
    parser.add_argument('--classifier', nargs='+', choices=CLASSIFIERS, default=CLASSIFIERS,
                        help='nearest centroid, logistic regression (default: both)')
    parser.add_argument('--seed', type=int, default=0, help='of the episodes (default: 0)')
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser


def extract_features(runner: Any, console: Console) -> tuple[np.ndarray, np.ndarray]:
    """Features ``(N, D)`` float32 and labels ``(N,)`` int64 of the runner's test data, in the order of the dataset."""
    import torch

    from mmtinyvit.apis.networks import pre_logits

    runner.load_or_resume()
    model = runner.model.eval()
    features, labels = [], []
    with torch.inference_mode(), console.status('') as status:
        for batch in runner.build_dataloader(runner.cfg.test_dataloader):
            batch = model.data_preprocessor(batch, False)
            features.append(pre_logits(model, batch['inputs']).float().cpu().numpy())
            labels.extend(int(sample.gt_label) for sample in batch['data_samples'])
            status.update(f'Features of {len(labels):,} images')
    return np.concatenate(features), np.array(labels, np.int64)


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_intermixed_args(argv)
    from mmtinyvit.evaluation.few_shot import few_shot_accuracy

    from .runner import build_runner, check_data, load_config  # seconds: not for --help

    cfg = load_config(args)
    if not cfg.get('test_dataloader'):
        raise UserError(f'{args.config} has no test_dataloader to take the images or their transforms from: add one.')
    if args.data:
        pipeline = cfg.test_dataloader.dataset.pipeline
        cfg.test_dataloader.dataset = dict(type='mmtinyvit.ImageFolder', data_root=args.data, pipeline=pipeline)
    cfg.test_dataloader.sampler = dict(type='DefaultSampler', shuffle=False)
    check_data(cfg, 'test_dataloader')
    cfg.log_level = 'WARNING'
    cfg.train_dataloader = cfg.train_cfg = cfg.optim_wrapper = cfg.param_scheduler = None
    console = Console(stderr=True)
    features, labels = extract_features(build_runner(cfg), console)
    settings = [(way, shot, name) for way in args.way for shot in args.shot for name in args.classifier]
    rows = []
    for way, shot, name in track(settings, 'Episodes', console=console, transient=True):
        result = few_shot_accuracy(features, labels, way, shot, args.query, args.episodes, name, args.seed)
        rows.append(dict(way=way, shot=shot, classifier=name, **result._asdict()))
    table = row_table('way', 'shot', 'classifier', 'accuracy (%)', words=('classifier', ),
                      title=f'{args.episodes} episodes, {len(labels):,} images, {features.shape[1]} features')
    for row in rows:
        table.add_row(f'{row["way"]} of {row["num_classes"]}', str(row['shot']), row['classifier'],
                      f'{row["mean"]:.1f} ± {row["interval"]:.1f}')
    print_tables(table)
    if args.out:
        facts = dict(config=args.config, checkpoint=args.checkpoint, images=len(labels), query=args.query,
                     episodes=args.episodes, seed=args.seed)
        write_json(args.out, facts | dict(results=rows))
