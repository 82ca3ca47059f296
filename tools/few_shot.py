"""How well do frozen features serve new classes, with a few labelled images of each?

    python tools/few_shot.py configs/imagenette/mobilenetv2.py MOBILENETV2.pth --way 5 --shot 1 5 20

Draws episodes of N classes with k labelled images of each (N-way, k-shot), classifies others by them, and prints the
mean accuracy with its 95 % interval. The images are the test data of the config, or the class folders below --data.

Episodes as in Vinyals et al., Matching Networks, NeurIPS 2016; the nearest centroid is the classifier of Snell et al.,
Prototypical Networks, NeurIPS 2017, on features that are not trained for it.
"""
import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mmtinyvit.apis.networks import pre_logits
from mmtinyvit.cli.command import run_command, write_json
from mmtinyvit.cli.runner import add_common_flags, build_runner, check_data, load_config
from mmtinyvit.errors import UserError


def nearest_centroid(support: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Class of each query ``(Q, D)`` by its distance to the means of ``support`` ``(way, shot, D)``."""
    centroids = support.mean(1)
    # |q - c|^2 without |q|^2, which is the same for every class
    return np.argmin(np.sum(centroids**2, 1) - 2 * queries @ centroids.T, 1)


def logistic_regression(support: np.ndarray, queries: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression
    way, shot, width = support.shape
    model = LogisticRegression(C=10., max_iter=1000)  # on features of length 1 the default C = 1 holds back too much
    return model.fit(support.reshape(-1, width), np.repeat(np.arange(way), shot)).predict(queries)


CLASSIFIERS = dict(centroid=nearest_centroid, logistic=logistic_regression)


def parse_args() -> argparse.Namespace:
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
    parser.add_argument('--classifier', nargs='+', choices=list(CLASSIFIERS), default=list(CLASSIFIERS),
                        help='nearest centroid, logistic regression (default: both)')
    parser.add_argument('--seed', type=int, default=0, help='of the episodes (default: 0)')
    parser.add_argument('--out', help='write the results to this JSON file')
    return parser.parse_intermixed_args()


class FewShotResult(NamedTuple):
    """Accuracy over episodes, in percent.

    Attributes:
        mean: Mean.
        interval: Half of the 95 % interval of the mean, ``1.96 * std / sqrt(episodes)``.
        num_classes: Classes that had enough images to be drawn.
    """
    mean: float
    interval: float
    num_classes: int


def sample_episodes(labels: np.ndarray, way: int, shot: int, query: int, episodes: int,
                    seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw episodes; the same arguments give the same ones.

    Args:
        labels: ``(N,)`` int, the class of each image.
        way: Classes of an episode.
        shot: Labelled images of each class.
        query: Images of each class to classify.
        episodes: How many.
        seed: Of the draw.

    Yields:
        tuple: Rows of the feature matrix, int64: ``(way, shot)`` to learn from, and ``(way, query)`` to classify.

    Raises:
        UserError: Too few classes have ``shot + query`` images.
    """
    if min(way, shot, query, episodes) < 1 or way < 2:
        raise UserError(f'An episode needs two classes, an image of each to learn and one to test, but got way={way}, '
                        f'shot={shot}, query={query} and episodes={episodes}.')
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    enough = [rows for rows in members if len(rows) >= shot + query]
    if len(enough) < way:
        raise UserError(f'{len(enough)} of {len(members)} classes have the {shot + query} images that an episode takes '
                        f'({shot} to learn, {query} to test), fewer than the {way} of way={way}: lower shot, query or '
                        'way, or add images.')
    rng = np.random.Generator(np.random.PCG64(seed))
    for _ in range(episodes):
        classes = rng.choice(len(enough), way, replace=False)
        rows = np.stack([rng.choice(enough[i], shot + query, replace=False) for i in classes])
        yield rows[:, :shot], rows[:, shot:]


def few_shot_accuracy(features: np.ndarray, labels: np.ndarray, way: int = 5, shot: int = 1, query: int = 15,
                      episodes: int = 600, classifier: str = 'centroid', seed: int = 0) -> FewShotResult:
    """Mean accuracy of a classifier that sees ``shot`` images of each of ``way`` classes.

    Args:
        features: ``(N, D)`` float. Each row is scaled to length 1 first.
        labels: ``(N,)`` int.
        way, shot, query, episodes, seed: See :func:`sample_episodes`.
        classifier: One of :data:`CLASSIFIERS`: ``'centroid'``, the class whose mean of labelled features is nearest, or
            ``'logistic'``, a logistic regression on them.

    Raises:
        UserError: As :func:`sample_episodes`; or the classifier is unknown.
    """
    if classifier not in CLASSIFIERS:
        raise UserError(f'There is no few-shot classifier {classifier!r}: choose one of {", ".join(CLASSIFIERS)}.')
    features = np.asarray(features, np.float32)
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    classify, accuracies = CLASSIFIERS[classifier], []
    for support, queries in sample_episodes(labels, way, shot, query, episodes, seed):
        predicted = classify(features[support], features[queries.ravel()])
        accuracies.append(100 * np.mean(predicted == np.repeat(np.arange(way), query)))
    spread = np.std(accuracies, ddof=1) if episodes > 1 else 0.
    counts = np.unique(labels, return_counts=True)[1]
    return FewShotResult(float(np.mean(accuracies)), float(1.96 * spread / np.sqrt(episodes)),
                         int(np.sum(counts >= shot + query)))


def extract_features(runner: Runner, console: Console) -> tuple[np.ndarray, np.ndarray]:
    """Features ``(N, D)`` float32 and labels ``(N,)`` int64 of the runner's test data, in the order of the dataset."""
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


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    if not cfg.get('test_dataloader'):
        raise UserError(f'{args.config} has no test_dataloader to take the images or their transforms from: add one.')
    if args.data:
        pipeline = cfg.test_dataloader.dataset.pipeline
        cfg.test_dataloader.dataset = ConfigDict(type='mmtinyvit.ImageFolder', data_root=args.data, pipeline=pipeline)
    cfg.test_dataloader.sampler = dict(type='DefaultSampler', shuffle=False)
    check_data(cfg, 'test_dataloader')
    cfg.log_level = 'WARNING'
    cfg.train_dataloader = cfg.train_cfg = cfg.optim_wrapper = cfg.param_scheduler = None
    console = Console()
    features, labels = extract_features(build_runner(cfg), console)
    settings = [(way, shot, name) for way in args.way for shot in args.shot for name in args.classifier]
    rows = []
    for way, shot, name in track(settings, 'Episodes', console=console, transient=True):
        result = few_shot_accuracy(features, labels, way, shot, args.query, args.episodes, name, args.seed)
        rows.append(dict(way=way, shot=shot, classifier=name, **result._asdict()))
    table = Table('way', 'shot', 'classifier', 'accuracy (%)',
                  title=f'{args.episodes} episodes, {len(labels):,} images, {features.shape[1]} features')
    for row in rows:
        table.add_row(f'{row["way"]} of {row["num_classes"]}', str(row['shot']), row['classifier'],
                      f'{row["mean"]:.1f} ± {row["interval"]:.1f}')
    console.print(table)
    if args.out:
        facts = dict(config=args.config, checkpoint=args.checkpoint, images=len(labels), query=args.query,
                     episodes=args.episodes, seed=args.seed)
        write_json(args.out, facts | dict(results=rows))


if __name__ == '__main__':
    run_command(main)
