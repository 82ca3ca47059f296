"""How teachers are saved and students are trained: the steps that the claims are made of."""
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .networks import FAMILY, TIMM, network
from .photos import CLASSES, IMAGENET_INDEX, NORM, PHOTOS, SIZE, HeldOutAccuracy, pipeline, test_loader, train_loader
from .step import Step

__all__ = ['LITE2', 'MOBILENETV2', 'PER_CLASS', 'Training', 'clean_labels', 'save_store', 'teacher_model',
           'try_teacher']

PER_CLASS = 250  # validation photos
LITE2 = dict(model_name='tf_efficientnet_lite2', weights='teacher_efficientnet_lite2/efficientnet_lite2_timm.pth')
MOBILENETV2 = dict(model_name='mobilenetv2_100', pad_type='same',
                   weights='teacher_mobilenetv2/tf2_mobilenet_v2_1_0_224_ptq_timm.pth')


# ---------------------------------------------------------------- teachers
def teacher_model(name: dict, input_size: int = 160) -> dict:
    """A teacher's config; it sees the views enlarged to ``input_size``. Without ``weights`` they are random."""
    config = dict(type='TimmClassifier', pretrained=False, data_preprocessor=dict(
        type='mmtinyvit.ReplayDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True,
        input_size=input_size)) | name
    weights = config.pop('weights', None)
    return config | dict(checkpoint=f'{{data}}/{weights}') if weights else config


def save_store(title: str, teachers: Sequence[dict], views: int, topk: int = 10, codec: str = 'compact',
               photos: int | None = None, strong: bool = False) -> Step:
    """The step that saves ``views`` views of all training photos, or of ``photos`` spread evenly over them.

    Several teachers are one, an ensemble. ``strong`` augments more, see :func:`.photos.pipeline`.
    """
    subset = {} if photos is None else dict(indices=list(range(0, PHOTOS, PHOTOS // photos)))
    dataset = train_loader(pipeline(strong=strong), **subset)['dataset']
    return Step.of(title, _teacher(teachers) | dict(
        test_dataloader=dict(batch_size=64, num_workers=0, dataset=dataset),
        test_evaluator=dict(type='Accuracy'),
        test_cfg=dict(type='mmtinyvit.SaveLogitsLoop', views=[0, views], topk=topk, codec=codec)))


def try_teacher(title: str, teachers: Sequence[dict], test_every: int = 1) -> Step:
    """The step that tests a teacher on the validation photos, made 64 pixels wide, or on one in ``test_every``."""
    loader = test_loader(**({} if test_every == 1 else dict(indices=list(range(0, CLASSES * PER_CLASS, test_every)))))
    loader['dataset']['pipeline'].insert(1, dict(type='Resize', scale=[SIZE, SIZE], interpolation='area'))
    return Step.of(title, _teacher(teachers) | dict(
        test_dataloader=loader, test_cfg=dict(type='TestLoop'),
        test_evaluator=dict(type=HeldOutAccuracy.__name__, num_classes=1000, index=list(IMAGENET_INDEX))))


def _teacher(teachers: Sequence[dict]) -> dict:
    """What the steps of a teacher share; one without a checkpoint is meant to be random."""
    random = {} if all('checkpoint' in teacher for teacher in teachers) else dict(random_teacher=True)
    model = dict(type='mmtinyvit.EnsembleClassifier', teachers=list(teachers))
    return dict(model=model, randomness=dict(seed=0)) | random


# ---------------------------------------------------------------- labels
def clean_labels(title: str, store: Step, flipped: float, subset: Sequence[tuple[str, Any]] = ()) -> Step:
    """The step that lists the photos whose label is among the teacher's top 5 in at least half of the views.

    As `tools/logit_store.py clean STORE --top 5`.
    """
    dataset = train_loader(pipeline(), flipped=flipped, **dict(subset))['dataset']
    return Step.of(title, dict(clean=dict(top=5, rule='most', index=list(IMAGENET_INDEX)), dataset=dataset,
                               store=f'{store.place}/store'), store)


# ---------------------------------------------------------------- students
@dataclass(frozen=True)
class Training:
    """One training of a student; :meth:`step` makes its config.

    Args:
        epochs: Over the photos that ``subset`` leaves.
        rate: Peak learning rate of AdamW; warm-up and cosine.
        student: A name of :mod:`.networks`.
        store: Learn from this store; without one, from labels.
        more_stores: Learn from the mean of these and ``store``.
        online: The teacher's config: it stands beside the student, and every epoch has views of its own.
        codec: That rounds what the teacher beside the student says; ``'compact'`` by default, as of a store.
        deit: ``'hard'`` or ``'soft'``: the teacher of the store trains a second head, beside the one of the labels.
        flipped: Share of the labels that are wrong.
        keep: The step that chose the photos to train on, see :func:`clean_labels`.
        views: Of the store, the first so many; from labels every epoch has views of its own, or so many in turn.
        label_weight: With a store, the share of the labels' loss.
        topk: Read so many of the stored classes.
        start: Start from this training's weights, with a new head if ``new_head``.
        thousand: Whether labels train a head of ImageNet's 1,000 classes, such as one that was distilled.
        subset: Of the training photos: ``indices``, ``share``, ``share_seed``.
        classes: The classes that are tested: the first, and the one after the last.
        tests: How often the student is tested in all.
        frozen: Train the head alone.
        batch_size: Photos in a batch.
        test_every: One in so many of the validation photos is tested, for a quick look.
        strong: Augment more, as the store.
        timed: Its time is compared with another's, so that every view is made anew.
    """
    epochs: int
    rate: float
    seed: int = 0
    student: str = '0.26 M'
    store: Step | None = None
    more_stores: tuple[Step, ...] = ()
    online: dict | None = None
    codec: str | None = None
    deit: str | None = None
    flipped: float = 0.
    keep: Step | None = None
    views: int | None = None
    label_weight: float = 0.
    topk: int | None = None
    start: Step | None = None
    new_head: bool = False
    thousand: bool = False
    subset: tuple[tuple[str, Any], ...] = ()
    classes: tuple[int, int] = (0, CLASSES)
    tests: int = 4
    frozen: bool = False
    batch_size: int = 64
    test_every: int = 1
    strong: bool = False
    timed: bool = False

    def with_(self, **changes: Any) -> 'Training':
        return replace(self, **changes)

    def step(self, title: str) -> Step:
        """The step, with seed and rate added to its title."""
        thousand = self._distilled or self.thousand
        head = 1000 if thousand else CLASSES
        needs = [step for step in (self.store, *self.more_stores, self.start, self.keep) if step is not None]
        subset = dict(self.subset)
        if self.keep is not None:
            subset['keep'] = f'{self.keep.place}/kept.txt'
        config = dict(
            model=self._model(head), data_preprocessor=dict(
                NORM, type='mmtinyvit.ReplayDataPreprocessor', input_size=SIZE),
            train_dataloader=train_loader(self._pipeline(), self.batch_size, self.flipped, **subset),
            val_dataloader=test_loader(**self._test_photos()),
            val_evaluator=dict(type=HeldOutAccuracy.__name__, num_classes=head, index=self._tested(thousand)),
            optim_wrapper=self._optimizer(), param_scheduler=self._schedule(), val_cfg={},
            train_cfg=dict(by_epoch=True, max_epochs=self.epochs, val_interval=max(1, self.epochs // self.tests)),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=500, ignore_last=False), checkpoint=dict(
                type='CheckpointHook', interval=max(1, self.epochs // 10), max_keep_ckpts=1)),
            custom_hooks=self._hooks(), randomness=dict(seed=self.seed))
        if self.start is not None:
            config['load_from'] = f'{self.start.place}/last.pth'
        if self.timed:
            config['timed'] = True
        if self.student in FAMILY:
            config['modules'] = [FAMILY[self.student]['module']]
        return Step.of(f'{title}, rate {self.rate:g}, seed {self.seed}', config, *needs)

    @property
    def _distilled(self) -> bool:
        return self.store is not None or self.online is not None

    def _model(self, head: int) -> dict:
        model = network(self.student, head, self.frozen)
        if self.deit:
            loss = dict(hard=dict(type='mmtinyvit.HardDistillationLoss'),
                        soft=dict(type='mmtinyvit.SoftDistillationLoss', temperature=1.))[self.deit]
            return model | dict(type='mmtinyvit.DeiTDistillClassifier', distill=loss, alpha=0.5,
                                head=model['head'] | dict(type='mmtinyvit.DeiTDistillHead'))
        if self._distilled:
            kind = 'mmtinyvit.DistillTimmClassifier' if self.student in TIMM else 'mmtinyvit.DistillClassifier'
            model |= dict(type=kind, label_weight=self.label_weight)
        return model

    def _pipeline(self) -> list[dict]:
        read = []
        if self.store is not None:
            narrowed = {} if self.topk is None else dict(topk=self.topk)
            places = [f'{store.place}/store' for store in (self.store, *self.more_stores)]
            read.append(dict(type='mmtinyvit.LoadTeacherLogits', store=places if self.more_stores else places[0],
                             **narrowed))
        if self.online is not None:
            read.append(dict(type='mmtinyvit.LoadTeacherLogits', mode='online', store='unsaved'))  # names none that is
        if self.thousand or self.label_weight or self.deit:
            read.append(dict(type='mmtinyvit.MapLabel', index=list(IMAGENET_INDEX)))
        # Labels have views of their own in each seed; a store has its own.
        return pipeline(*read, base_seed=0 if self._distilled else self.seed, strong=self.strong)

    def _test_photos(self) -> dict:
        """The validation photos of the tested classes."""
        chosen = range(*(PER_CLASS * number for number in self.classes), self.test_every)
        return {} if len(chosen) == CLASSES * PER_CLASS else dict(indices=list(chosen))

    def _tested(self, thousand: bool) -> list[int]:
        """The head's class for each of the ten, -1 for those that are not tested."""
        index = IMAGENET_INDEX if thousand else range(CLASSES)
        return [number if self.classes[0] <= i < self.classes[1] else -1 for i, number in enumerate(index)]

    def _optimizer(self) -> dict:
        return dict(
            optimizer=dict(type='AdamW', lr=self.rate, weight_decay=0.05), clip_grad=dict(max_norm=5.),
            paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0.,
                               custom_keys={'attention_biases': dict(decay_mult=0.)}))

    def _schedule(self) -> list[dict]:
        warm_up = max(2, self.epochs // 20)  # after one of these small epochs, some runs fall 5 points behind for good
        return [
            dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=warm_up, convert_to_iter_based=True),
            dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, end=self.epochs, convert_to_iter_based=True)]

    def _hooks(self) -> list[dict]:
        hooks = [dict(type='mmtinyvit.EpochClockHook', num_views=self.views)]
        if self.store is not None:
            views = None if self.views is None else list(range(self.views))
            hooks = [dict(type='mmtinyvit.SparseLogitDistillHook', views=views)]
        if self.online is not None:
            hooks = [dict(type='mmtinyvit.CacheLogitsHook', views=list(range(self.epochs)), topk=10, teacher_model=dict(
                type='mmtinyvit.EnsembleClassifier', teachers=[self.online]))]
            if self.codec is not None:
                hooks[0]['codec'] = self.codec
        if self.start is not None:
            hooks += [dict(type='mmtinyvit.NewHeadHook')] if self.new_head else []
            hooks.append(dict(type='mmtinyvit.RequireWeightsHook', fresh=['head.'] if self.new_head else []))
        return hooks
