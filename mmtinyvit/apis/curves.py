"""Loss and accuracy of several runs, in one picture."""
import json
from pathlib import Path

import matplotlib

__all__ = ['draw_curves', 'read_scalars']


def read_scalars(work_dir: str | Path) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """What MMEngine's local visualiser wrote of the newest runs in a work folder, resumed ones joined.

    Returns:
        tuple: Training loss by iteration and top-1 accuracy by epoch, as pairs in order.
    """
    losses: dict[int, float] = {}
    accuracies: dict[int, float] = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            scalars = json.loads(line)
            if 'loss' in scalars:
                losses[scalars['step']] = scalars['loss']
            elif 'accuracy/top1' in scalars:
                accuracies[scalars['step']] = scalars['accuracy/top1']
    return sorted(losses.items()), sorted(accuracies.items())


def draw_curves(runs: dict[str, str | Path], out: str | Path) -> None:
    """Draw the loss and the accuracy of ``runs``, given as work folders by name, into the file ``out``."""
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout='constrained')
    for name, folder in runs.items():
        losses, accuracies = read_scalars(folder)
        left.plot([step for step, _ in losses], [loss for _, loss in losses], label=name)
        right.plot([epoch for epoch, _ in accuracies], [top1 for _, top1 in accuracies], 'o-', label=name)
    left.set(xlabel='iteration', ylabel='training loss', yscale='log')
    right.set(xlabel='epoch', ylabel='test top-1 (%)')
    right.legend()
    figure.savefig(out, dpi=110)
    plt.close(figure)
