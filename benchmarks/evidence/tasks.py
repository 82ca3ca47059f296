"""Steps that neither save a store nor train: labels are cleaned, networks timed, digits written, features tried out."""
import runpy
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import compare
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn

from mmtinyvit.apis.networks import count_parameters, pre_logits
from mmtinyvit.apis.store_cleaning import keep_samples, measure_support
from mmtinyvit.cli.runner import build_runner
from mmtinyvit.evaluation.few_shot import few_shot_accuracy
from mmtinyvit.paths import mim_root
from mmtinyvit.store import LogitStore

from .mim_networks import SETTINGS, write_random_vit
from .photos import SIZE

__all__ = ['TASKS']

Result = dict[str, Any]


def clean(config: dict[str, Any], folder: Path) -> Result:
    """Write the names of the photos whose label the teacher supports, and count."""
    init_default_scope('mmpretrain')
    rule, store, dataset = config['clean'], LogitStore(config['store']), DATASETS.build(config['dataset'])
    support = measure_support(store, dataset, store.complete_views(), rule['top'], rule['index'])
    kept = keep_samples(support, rule['rule'])
    samples = [dataset.get_data_info(i) for i in range(len(dataset))]
    names = [sample['sample_key'] for sample, keep in zip(samples, kept, strict=True) if keep]
    (folder / 'kept.txt').write_text(''.join(f'{name}\n' for name in names))
    wrong = np.array(['true_label' in sample for sample in samples])
    return dict(kept=int(kept.sum()), wrong=int(wrong.sum()), wrong_kept=int((wrong & kept).sum()))


def speed(config: dict[str, Any], _: Path) -> Result:
    """Parameters of networks, and images per second and core in eager PyTorch, by processor time; they take turns."""
    init_default_scope('mmpretrain')
    batch = torch.randn(config['speed']['batch'], 3, SIZE, SIZE)
    models = {name: MODELS.build(model).eval() for name, model in config['speed']['models'].items()}
    parameters = {name: count_parameters(model) for name, model in models.items()}
    for model in models.values():
        if hasattr(getattr(model, 'backbone', None), 'fuse'):
            model.backbone.fuse()

    def step(model: nn.Module) -> float:
        start = time.process_time()
        with torch.inference_mode():
            model(batch, mode='tensor')
        return time.process_time() - start

    found = compare({name: partial(step, model) for name, model in models.items()}, config['speed']['repeats'])
    return dict(parameters=parameters, images_per_second={
        name: len(batch) / row['median_s'] for name, row in found.items()})


def digits(config: dict[str, Any], folder: Path) -> Result:
    """Write handwritten digits, and larger images with some of them on each."""
    tools = mim_root() / 'tools/dataset_converters'
    runpy.run_path(str(tools / 'digits.py'))['write_digits'](folder / 'digits')
    written = runpy.run_path(str(tools / 'digit_canvases.py'))['write_canvases'](
        folder / 'digits', folder / 'canvases', **config['digits'])
    return dict(boxes=written['boxes'])


def few_shot(config: dict[str, Any], _: Path) -> Result:
    """Accuracy of the nearest centroid on frozen features of the test data, by labelled images of each class."""
    episodes = config.pop('few_shot')
    shots = episodes.pop('shots')
    runner = build_runner(Config(config, format_python_code=False))
    runner.model.init_weights()  # what a backbone without a checkpoint keeps
    runner.load_or_resume()
    model, features, labels = runner.model.eval(), [], []
    with torch.inference_mode():
        for batch in runner.build_dataloader(runner.cfg.test_dataloader):
            batch = model.data_preprocessor(batch, False)
            features.append(pre_logits(model, batch['inputs']).numpy())
            labels.extend(int(sample.gt_label) for sample in batch['data_samples'])
    accuracy = {shot: few_shot_accuracy(np.concatenate(features), np.array(labels), shot=shot, **episodes).mean
                for shot in shots}
    return dict(top1=accuracy[shots[-1]], images=0, shots=accuracy)


def random_vit(config: dict[str, Any], folder: Path) -> Result:
    """Write the weights of a teacher of TinyMIM that nobody trained."""
    write_random_vit(SETTINGS[config['random_vit']], folder / 'last.pth')
    return {}


TASKS = dict(clean=clean, speed=speed, digits=digits, few_shot=few_shot, random_vit=random_vit)
