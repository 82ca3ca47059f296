"""How good a trained candidate is: its divergence from the teacher on held-out keys, or its error on labelled images.

Both are better the lower they are.
"""
from collections.abc import Sequence

import torch
from mmengine.registry import DATASETS, FUNCTIONS
from mmengine.runner import Runner
from timm.utils import unwrap_model
from torch.utils.data import DataLoader

from mmtinyvit.datasets.load_teacher_logits import use_store
from mmtinyvit.datasets.view_dataset import ViewDataset
from mmtinyvit.errors import UserError
from mmtinyvit.models.classifiers.students import stored_record
from mmtinyvit.models.losses import soft_distillation_loss

__all__ = ['JUDGES', 'divergence', 'error']


@torch.inference_mode()
def divergence(runner: Runner, keys: str, views: Sequence[int]) -> float:
    """Mean Kullback-Leibler divergence of a student from its store, in nats.

    Args:
        runner: Whose model it is; its dataset names the images.
        keys: File with the keys to judge by.
        views: Views of each.
    """
    loader, model = runner.cfg.train_dataloader, unwrap_model(runner.model)
    dataset = DATASETS.build(loader.dataset | dict(keep=keys))
    use_store(dataset, runner.cfg)
    items = [(view, index) for view in views for index in range(len(dataset))]
    collate = FUNCTIONS.get((loader.get('collate_fn') or dict(type='pseudo_collate'))['type'])
    batches = DataLoader(ViewDataset(dataset), loader.batch_size, sampler=items, collate_fn=collate,
                         num_workers=loader.get('num_workers', 0))
    model.eval()
    total = 0.
    for batch in batches:
        data = model.data_preprocessor(batch, False)
        logits = model(data['inputs'], mode='tensor')
        total += soft_distillation_loss(logits, stored_record(data['data_samples'], logits.device)).double().sum()
    return float(total) / len(items)


def error(runner: Runner, keys: str, views: Sequence[int]) -> float:
    """100 minus the top-1 accuracy of the recipe's validation, in percent.

    Raises:
        UserError: The validation measures no top-1 accuracy.
    """
    found = runner.val()
    name = next((name for name in found if name.rpartition('/')[2] in ('top1', 'single-label/top1')), None)
    if name is None:
        raise UserError(f'--judge accuracy needs a top-1 accuracy of the validation, which measures '
                        f'{", ".join(found) or "nothing"}: set val_evaluator of the recipe to one.')
    return 100 - found[name]


JUDGES = dict(divergence=divergence, accuracy=error)
