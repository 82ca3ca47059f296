"""Few-shot classification on frozen features: N classes that a model may never have seen, k labelled images of each.

Episodes as in Vinyals et al., Matching Networks, NeurIPS 2016; the nearest centroid is the classifier of Snell et al.,
Prototypical Networks, NeurIPS 2017, on features that are not trained for it.
"""
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..errors import UserError

__all__ = ['CLASSIFIERS', 'FewShotResult', 'few_shot_accuracy', 'sample_episodes']


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


def _nearest_centroid(support: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Class of each query ``(Q, D)`` by its distance to the means of ``support`` ``(way, shot, D)``."""
    centroids = support.mean(1)
    # |q - c|^2 without |q|^2, which is the same for every class
    return np.argmin(np.sum(centroids**2, 1) - 2 * queries @ centroids.T, 1)


def _logistic_regression(support: np.ndarray, queries: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression
    way, shot, width = support.shape
    model = LogisticRegression(C=10., max_iter=1000)  # on features of length 1 the default C = 1 holds back too much
    return model.fit(support.reshape(-1, width), np.repeat(np.arange(way), shot)).predict(queries)


CLASSIFIERS = dict(centroid=_nearest_centroid, logistic=_logistic_regression)
