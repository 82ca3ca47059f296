"""Claim 12: what a pretrained backbone is worth elsewhere."""
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from mmtinyvit.paths import config_root

from .arm import LABELS, STORED, Arm, Size
from .claim import Claim, Gain, Row, between, row_of, verdict
from .lab import Lab
from .networks import TINY_VIT, network
from .photos import CLASSES, NORM, SIZE, test_loader
from .pretraining import finetuning_on, five_classes
from .recipes import PER_CLASS, Training
from .step import Step

__all__ = ['TRANSFER']

RANDOM = 'random weights'
PROBE, DETECTION = 'linear probe, the other five classes', 'RetinaNet on handwritten digits'
EPISODES = dict(way=5, query=15, episodes=600, shots=[1, 5])
Backbones = Mapping[str, Sequence[Step | None]]  # one for each seed; None is random


def rows(lab: Lab) -> Iterator[Row]:
    size, digits = Size.of(lab), digit_images(lab)
    store = size.store()
    *halves, others = five_classes(size, size.base, store)
    whole = (Arm('store', size.base.with_(store=store)), Arm('labels', size.base))
    lab.start([digits])
    rates = size.stored_rate(lab), size.label_rate(lab)
    five, ten = ({name: arm.seeds(lab, [rate], size.seeds) for name, arm, rate in zip(
        (STORED, LABELS), arms, rates, strict=True)} | {RANDOM: [None] * len(size.seeds)} for arms in (halves, whole))
    yield from probes(lab, size, five, others)
    photos = test_loader(indices=list(range(CLASSES // 2 * PER_CLASS, CLASSES * PER_CLASS, 5 if lab.quick else 1)))
    yield from few_shot(lab, size, 'few-shot, the other five classes', five, photos, size.pool // 2)
    handwriting = test_loader(data_root=f'{digits.place}/digits', data_prefix='train')
    yield from few_shot(lab, size, 'few-shot, handwritten digits', ten, handwriting, size.pool, digits)
    yield from detection(lab, size, ten, digits)


def digit_images(lab: Lab) -> Step:
    """The step that writes handwritten digits, and canvases with several of them."""
    return Step.of('digits', dict(digits=dict(num_train=16, num_val=4) if lab.quick else dict(
        num_train=400, num_val=200)))


def probes(lab: Lab, size: Size, backbones: Backbones, others: Training) -> Iterator[Row]:
    """A linear classifier on frozen features, from a tenth of the labels; the first claim has the same steps."""
    share, pool = size.share(0.1), size.pool // 2
    training = finetuning_on(round(share * pool), size, others, pool).with_(frozen=True)
    arms = {name: Arm(f'{name} probe', training, None if name == RANDOM else start, share)
            for name, start in backbones.items()}
    for arm in arms.values():
        lab.start(arm.tries(size.probing_rates))
    for name, arm in arms.items():
        yield row_of(PROBE, name, lab.results(arm.seeds(lab, size.probing_rates, size.seeds)),
                     0 if name == RANDOM else size.pretraining * pool)


def few_shot(lab: Lab, size: Size, group: str, backbones: Backbones, loader: dict, pool: int,
             *needs: Step) -> Iterator[Row]:
    """The nearest centroid of one or five labelled images of each of five classes, on frozen features."""
    def step(name: str, start: Step | None, seed: int) -> Step:
        config = dict(
            few_shot=EPISODES, model=network(size.students[0], 1000 if name == STORED else CLASSES),
            data_preprocessor=dict(NORM, type='mmtinyvit.ReplayDataPreprocessor', input_size=SIZE),
            test_dataloader=loader, test_evaluator=dict(type='Accuracy'), test_cfg={}, randomness=dict(seed=seed))
        if start is not None:
            config['load_from'] = f'{start.place}/last.pth'
        return Step.of(f'{group}, {name}, seed {seed}', config, *needs, *([] if start is None else [start]))

    steps = {name: [step(name, start, seed) for start, seed in zip(starts, size.seeds, strict=True)]
             for name, starts in backbones.items()}
    for each in steps.values():
        lab.start(each)
    for shot in EPISODES['shots']:
        for name, each in steps.items():
            found = [result | dict(top1=result['shots'][str(shot)]) for result in lab.results(each)]
            yield row_of(group, name, found, 0 if name == RANDOM else size.pretraining * pool, 'accuracy (%)',
                         shot=shot)


def detection(lab: Lab, size: Size, backbones: Backbones, digits: Step) -> Iterator[Row]:
    """The detector of configs/demo/detect.py, all of which is trained."""
    demo = Config.fromfile(config_root() / 'demo/detect.py').to_dict()
    arch, root, epochs = TINY_VIT[size.students[0]], f'{digits.place}/canvases/', 1 if lab.quick else 15

    def loader(name: str, batch_size: int) -> dict:
        dataset = demo[f'{name}_dataloader']['dataset'] | dict(data_root=root)
        dataset['pipeline'] = [dict(type='Resize', scale_factor=1.) if each['type'] == 'Resize' else each
                               for each in dataset['pipeline']]  # JSON has no tuple for the size, which stays
        return dict(batch_size=batch_size, num_workers=0, dataset=dataset, sampler=dict(
            type='DefaultSampler', shuffle=name == 'train'))

    def step(name: str, start: Step | None, seed: int) -> Step:
        init = dict(type='TruncNormal', layer='Linear', std=.02, bias=0.) if start is None else dict(
            type='Pretrained', checkpoint=f'{start.place}/last.pth', prefix='backbone.')
        model = demo['model'] | dict(
            backbone=demo['model']['backbone'] | dict(arch=arch, init_cfg=init),
            neck=demo['model']['neck'] | dict(in_channels=arch['embed_dims'][1:]),
            data_preprocessor=demo['model']['data_preprocessor'] | dict(mean=NORM['mean'], std=NORM['std']))
        config = dict(
            default_scope='mmdet', model=model, train_dataloader=loader('train', 8), val_dataloader=loader('val', 20),
            val_cfg={}, val_evaluator=demo['val_evaluator'] | dict(ann_file=f'{root}annotations/val.json'),
            train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=epochs), optim_wrapper=demo['optim_wrapper'],
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=30),
                dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, end=epochs, convert_to_iter_based=True)],
            default_hooks=dict(logger=dict(type='LoggerHook', interval=50), checkpoint=dict(
                type='CheckpointHook', interval=1, max_keep_ckpts=1)), randomness=dict(seed=seed))
        return Step.of(f'RetinaNet from {name}, seed {seed}', config, digits, *([] if start is None else [start]))

    steps = {name: [step(name, start, seed) for start, seed in zip(starts, size.seeds, strict=True)]
             for name, starts in backbones.items()}
    for each in steps.values():
        lab.start(each)
    for name, each in steps.items():
        yield row_of(DETECTION, name, lab.results(each), 0 if name == RANDOM else size.pretraining * size.pool,
                     'box AP')


def gains(rows: Sequence[Row], over: str) -> dict[str, Gain]:
    """By task, how far the backbones from the store are before others."""
    tasks: dict[str, dict[str, Row]] = {}
    for row in rows:
        shot = dict(row.facts).get('shot')
        tasks.setdefault(row.group + (f', {shot} of each' if shot else ''), {})[row.name] = row
    return {task: Gain(found[STORED], found[over]) for task, found in tasks.items()}


def judge(rows: Sequence[Row]) -> tuple[str, str]:
    labels, random = gains(rows, LABELS), gains(rows, RANDOM)
    parts: dict[str, list[Gain]] = {'the other five classes': [], 'handwritten digits': []}
    for task, gain in labels.items():
        parts[next(part for part in parts if part in task)].append(gain)
    effect = 'store over labels: ' + ', '.join(f'{between(found)} on {part}' for part, found in parts.items() if found)
    return f'{effect}; over random weights: {between(random.values())}', verdict(labels.values())


def draw(rows: Sequence[Row], axes: Any) -> None:
    tasks = list(gains(rows, RANDOM))
    for shift, over in ((-.2, LABELS), (.2, RANDOM)):
        found = gains(rows, over).values()
        axes.barh([i + shift for i in range(len(tasks))], [gain.points for gain in found],
                  xerr=[gain.noise for gain in found], height=.4, label=f'over {over}')
    axes.set_yticks(range(len(tasks)), [task.replace(', ', ',\n', 1) for task in tasks])
    axes.invert_yaxis()
    axes.set(xlabel='points (accuracy, AP) that the store is ahead')


TRANSFER = Claim(
    name='transfer',
    title='A distilled backbone transfers better',
    question='Is a backbone that was pretrained from a store worth more on other classes, other images and other tasks '
             'than one from labels?',
    published='21M after ImageNet-21K, from labels and distilled: linear probe on CIFAR-10 96.3 and 96.9, CIFAR-100 '
              '84.7 and 86.6, Pets 92.6 and 93.8; 5-shot EuroSAT 87.4 and 88.1, ChestX 24.6 and 24.7 (table 5). COCO: '
              'Swin-T 48.1, 21M 49.6, distilled 50.2 box AP (table 6).',
    setting='Backbones of 0.26 M parameters after 40 epochs. Linear probe and few-shot on the other five classes: '
            'pretrained on five classes, none of which is among them; the teacher knows all ten. Handwritten digits: '
            'neither teacher nor student has seen any. Few-shot: 600 episodes of five classes with one or five '
            'labelled images of each, nearest centroid of the frozen features. Detection: RetinaNet on 400 canvases of '
            '96 pixels with digits, 15 epochs at one learning rate, tested on 200 others; a few dozen photos of COCO '
            'are too few to tell detectors of this size apart. Random weights saw no images before. Chance: 20 % on '
            'five classes. It holds if the store is ahead of the labels in every task.',
    rows=rows, judge=judge, draw=draw)
