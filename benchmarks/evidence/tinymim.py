"""Claim 11: TinyMIM, on handwriting and on photos."""
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .claim import Claim, Gain, Row, row_of, verdict
from .lab import Lab
from .mim_networks import LOSSES, SETTINGS, classifier, loader, mae, pipeline, plain_vit, student_of, tiny_vit
from .photos import CLASSES, PHOTOS, HeldOutAccuracy
from .step import Step
from .transfer import digit_images

__all__ = ['TINYMIM']

RATES, PRETRAINING_RATE = (5e-4, 2e-3), 2e-3
LOSS, CHAIN, BLOCK, TINY_VIT = 'loss', 'chain', 'target block', 'TinyViT'
RANDOM, UNTAUGHT = 'relation, random teacher', 'not distilled'
Finetuning = Callable[[float, int], Step]  # by rate and seed


class Trials:
    """Trainings on one kind of images.

    Args:
        lab: Where they are carried out.
        name: ``'digits'`` or ``'photos'``.
    """

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab, self.name, self.setting = lab, name, SETTINGS[name]
        self.needs = (digit_images(lab), ) if name == 'digits' else ()
        self.folder = f'{self.needs[0].place}/digits' if self.needs else '{data}/imagenette96'
        self.images = 1297 if name == 'digits' else PHOTOS
        self.pool = 0.06 if lab.quick else None  # a share of the images
        self.lengths = (1, 1, 1) if lab.quick else self.setting.lengths
        self.seeds = (0, ) if lab.quick else (0, 1, 2)
        self.mae = self.train(f'MAE of {name}', mae(self.setting), self.lengths[0])
        self.random = Step.of(f'random ViT of {name}', dict(random_vit=name))

    def train(self, title: str, model: dict, batches: int, rate: float = PRETRAINING_RATE, *, seed: int = 0,
              start: Sequence[Step] = (), labels: bool = False, jitter: bool = False) -> Step:
        """A training of so many batches; with ``labels`` on a share of the images that each seed draws, and tested."""
        share, batch = (self.setting.labels, 50) if labels else (self.pool, 64)
        if labels and self.lab.quick:
            share = 0.05
        epochs = max(1, round(batches * batch / (self.images * (share or 1))))
        data = loader(f'{self.folder}/train', batch, pipeline(self.setting, seed, jitter))
        if share:
            data['dataset'] |= dict(share=share, share_seed=seed)
        config = dict(
            model=model, train_dataloader=data, randomness=dict(seed=seed),
            data_preprocessor=dict(type='ClsDataPreprocessor' if labels else 'SelfSupDataPreprocessor',
                                   mean=[127.5] * 3, std=[127.5] * 3),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=rate, betas=[0.9, 0.95], weight_decay=0.05),
                               clip_grad=dict(max_norm=5.)),
            param_scheduler=[
                dict(type='LinearLR', start_factor=1e-3, end=max(1, epochs // 10), convert_to_iter_based=True),
                dict(type='CosineAnnealingLR', end=epochs, convert_to_iter_based=True)],
            train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=epochs),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=500, ignore_last=False), checkpoint=dict(
                type='CheckpointHook', interval=max(1, epochs // 10), max_keep_ckpts=1)),
            custom_hooks=[dict(type='mmtinyvit.EpochClockHook')])
        if labels:
            test = [dict(type='mmtinyvit.LoadImage'), dict(type='PackInputs')]
            config |= dict(val_cfg={}, val_dataloader=loader(f'{self.folder}/val', 250, test, shuffle=False),
                           val_evaluator=dict(type=HeldOutAccuracy.__name__, num_classes=CLASSES,
                                              index=list(range(CLASSES))))
        if labels and start:
            config['load_from'] = f'{start[0].place}/last.pth'
            fresh = ['head.', *(['backbone.ln2.'] if model['backbone']['type'] == 'VisionTransformer' else [])]
            config['custom_hooks'].append(dict(type='mmtinyvit.RequireWeightsHook', fresh=fresh,
                                               unused=['backbone.ln1.', 'losses.']))
        return Step.of(f'{title}, rate {rate:g}, seed {seed}', config, *self.needs, *start)

    def distil(self, title: str, teacher: Step, loss: str = 'relation', block: int | None = None,
               student: dict | None = None, **changes: Any) -> Step:
        """A student of the MAE, or of a random teacher; ``changes`` are to its model."""
        model = student_of(self.setting, loss, student or self.setting.student, self.setting.teacher,
                           f'{teacher.place}/last.pth', block or self.setting.block) | changes
        return self.train(f'{title} on {self.name}', model, self.lengths[1], start=[teacher], jitter=True)

    def distil_again(self, title: str, middle: Step) -> Step:
        """The small student of a student, which stands in its teacher's place."""
        setting = self.setting
        model = student_of(setting, 'relation', setting.small, setting.student, f'{middle.place}/last.pth',
                           setting.student['num_layers'], setting.teacher['num_heads'])
        return self.train(f'{title} on {self.name}', model, self.lengths[1], start=[middle], jitter=True)

    def finetune(self, title: str, start: Sequence[Step], model: dict) -> Finetuning:
        """The classifiers that start from a student, or from random weights."""
        return lambda rate, seed: self.train(f'{title} on {self.name}, finetuned', model, self.lengths[2], rate,
                                             seed=seed, start=start[-1:], labels=True)


def rows(lab: Lab) -> Iterator[Row]:
    trials = [Trials(lab, name) for name in (('digits', ) if lab.quick else ('digits', 'photos'))]
    for each in trials:
        lab.start([each.mae, each.random])
    for each in trials:
        yield from rows_of(lab, each)


def rows_of(lab: Lab, trials: Trials) -> Iterator[Row]:
    """Losses, chain, target blocks, and a TinyViT, on one kind of images."""
    setting = trials.setting
    losses = {loss: trials.distil(loss, trials.mae, loss) for loss in LOSSES}
    relation = losses['relation']
    control = trials.distil('random teacher', trials.random)
    direct = trials.distil('small, direct', trials.mae, student=setting.small)
    chain = trials.distil_again('small, chain', relation)
    blocks = {setting.block: relation} | {block: trials.distil(f'block {block}', trials.mae, block=block)
                                          for block in setting.other_blocks[:1 if lab.quick else None]}
    usual, small = (classifier(plain_vit(setting, arch), arch['embed_dims'])
                    for arch in (setting.student, setting.small))
    runs = [(LOSS, loss, [step], usual, {}) for loss, step in losses.items()]
    runs += [(LOSS, RANDOM, [control], usual, {}), (LOSS, UNTAUGHT, [], usual, {}),
             (CHAIN, 'from the MAE to the student to a smaller one', [relation, chain], small, {}),
             (CHAIN, 'from the MAE to the smaller one', [direct], small, {})]
    runs += [(BLOCK, f'block {block}', [step], usual, dict(block=block)) for block, step in sorted(blocks.items())]
    if setting.tiny_vit:
        network = tiny_vit(setting)
        model = classifier(network, setting.tiny_vit['embed_dims'][-1])
        taught = {name: trials.distil(f'TinyViT, {name}', teacher, backbone=network, stages=setting.stages)
                  for name, teacher in (('relation', trials.mae), (RANDOM, trials.random))}
        runs += [(TINY_VIT, name, [step], model, {}) for name, step in taught.items()]
        runs.append((TINY_VIT, UNTAUGHT, [], model, {}))
    lab.start([step for _, _, steps, _, _ in runs for step in steps])
    makes = [trials.finetune(f'TinyViT, {name}' if part == TINY_VIT else name, steps, model)
             for part, name, steps, model, _ in runs]
    for make in makes:
        lab.start([make(rate, 0) for rate in RATES[:len(trials.seeds)]])
    for (part, name, steps, _, facts), make in zip(runs, makes, strict=True):
        rate = lab.best(lambda rate, make=make: make(rate, 0), RATES[:len(trials.seeds)])
        found = lab.results([make(rate, seed) for seed in trials.seeds])
        seen = sum(result['images'] for result in lab.results(steps))
        yield row_of(f'{trials.name}: {part}', name, found, seen, **facts)


def differences(rows: Sequence[Row], name: str) -> tuple[Gain, Gain, Gain]:
    """On one kind of images: relations over features, features over the class token, the chain over the direct way."""
    found = {row.name: row for row in rows if row.group == f'{name}: {LOSS}'}
    chain, direct = (row for row in rows if row.group == f'{name}: {CHAIN}')
    return (Gain(found['relation'], found['feature']), Gain(found['feature'], found['class token']),
            Gain(chain, direct))


def judge(rows: Sequence[Row]) -> tuple[str, str]:
    sentences, gaps = [], []
    for name in dict.fromkeys(row.group.split(':')[0] for row in rows):
        feature, token, chain = differences(rows, name)
        blocks = {dict(row.facts)['block']: row.mean for row in rows if row.group == f'{name}: {BLOCK}'}
        gaps += [feature, token, chain]
        sentences.append(f'{name}: relations over features {feature}, features over the class token {token}, '
                         f'chain over direct {chain}, best block {max(blocks, key=blocks.__getitem__)}')
    return '; '.join(sentences), verdict(gaps)


def draw(rows: Sequence[Row], axes: Any) -> None:
    """The losses, on each kind of images."""
    names = list(dict.fromkeys(row.name for row in rows if row.group.endswith(f': {LOSS}')))
    for number, data in enumerate(dict.fromkeys(row.group.split(':')[0] for row in rows)):
        found = [row for row in rows if row.group == f'{data}: {LOSS}']
        axes.barh([names.index(row.name) + .4 * number - .2 for row in found], [row.mean for row in found],
                  xerr=[row.spread or 0. for row in found], height=.4, label=data)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel='top-1 after finetuning (%)')


TINYMIM = Claim(
    name='tinymim',
    title='TinyMIM learns relations best',
    question='What should a small ViT learn from a masked autoencoder: how tokens relate, its features, or its class '
             'token? From which block, and is a network of middle size in between worth its time?',
    published='ViT-T 71.6 from MAE and 75.8 from TinyMIM, ViT-S 80.6 and 83.0, ViT-B 83.6 and 85.0 on ImageNet-1K. The '
              'paper puts relations before features before the class token, and the chain before the direct way.',
    setting='A MAE is trained without labels, students of three quarters of its width or less are distilled from it, '
            'and finetuned on few labels: 1,297 handwritten digits of 32 pixels with 104 labels, and the 7,500 photos '
            'of 96 pixels with 750. The relations are taken from block 3 of 4 (digits) and 5 of 6 (photos), except in '
            'the sweep. On digits a TinyViT learns from the same teacher too. One distillation, three seeds of '
            'finetuning with labels of their own; two learning rates; digits are judged by 400 images. Images seen: '
            'without those of the MAE. It holds if all three differences of the paper are seen on both.',
    rows=rows, judge=judge, draw=draw)
