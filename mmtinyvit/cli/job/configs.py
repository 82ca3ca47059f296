"""The configs of a job: ordinary ones of MMEngine, written so that people may read and change them."""
import os
from collections.abc import Mapping
from pathlib import Path
from pprint import pformat
from typing import Any

from mmtinyvit.store.files import write_atomically

from .images import ImageSet
from .networks import Student, Teacher
from .plan import Layout, Plan
from .settings import Settings

__all__ = ['write_configs']

WARM_UP = 10  # one epoch of so many is the warm-up, and at most five
VALIDATIONS = 10  # about so many during a training


def write_configs(where: Layout, settings: Settings, plan: Plan, teacher: Teacher, student: Student) -> None:
    """``data.py``, ``teacher.py`` and ``student.py``, and ``finetune.py`` if the plan has images for it."""
    _write(where.configs / 'data.py', data_text(where, settings, plan))
    _write(where.teacher, teacher_text(settings, plan, teacher))
    _write(where.student, student_text(settings, plan, student))
    if plan.finetune_train:
        checkpoint = where.work('student') / f'epoch_{settings.epochs}.pth'
        _write(where.finetuned, finetune_text(settings, plan, student, str(checkpoint)))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, [text.encode()])


def spell(value: Any, indent: int = 0) -> str:
    """A value as Python, as configs are written, over as many lines as it needs."""
    named = isinstance(value, Mapping) and all(str(name).isidentifier() for name in value)
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        inner = ' ' * (indent + 4)
        return '[\n' + ''.join(f'{inner}{spell(item, indent + 4)},\n' for item in value) + ' ' * indent + ']'
    if not named:
        text = pformat(value, width=110 - indent, compact=True, sort_dicts=False)
        return text.replace('\n', '\n' + ' ' * indent)
    line = f'dict({", ".join(f"{name}={spell(item)}" for name, item in value.items())})'
    if len(line) + indent <= 100 and '\n' not in line:
        return line
    inner = ' ' * (indent + 4)
    return 'dict(\n' + ',\n'.join(f'{inner}{name}={spell(item, indent + 4)}' for name, item in value.items()) + ')'


def spell_images(images: ImageSet) -> str:
    """The beginning of a dataset's settings."""
    keep = f', keep={images.keep!r}' if images.keep else ''
    return (f"type='mmtinyvit.IndexedImages', data_root={images.root!r},\n"
            f'        ann_file={images.index!r}{keep}')


def spell_imports(imports: Mapping[str, Any] | None) -> str:
    return f'custom_imports = {spell(dict(imports))}\n' if imports else ''


# ---------------------------------------------------------------- distillation
def data_text(where: Layout, settings: Settings, plan: Plan) -> str:
    batch = _batch_size(settings, plan.train.count)
    return f'''"""The images, the views and the runtime of this job, which the other configs of this folder share."""
image_size = {plan.size}
store = {str(where.store)!r}
num_views = {plan.views}
topk = {plan.topk}  # of {plan.num_classes:,} classes
workers = {plan.workers}

# ---------------------------------------------------------------- views: images are BGR until they are normalised
bgr_mean, bgr_std = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]
view_transforms = [
    dict(type='mmtinyvit.RandomResizedCrop', scale=image_size, crop_ratio_range=(0.08, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmtinyvit.RandAugment', policies='timm_increasing', num_policies=2, total_level=10,
         magnitude_level=9, magnitude_std=0.5,
         hparams=dict(pad_val=[round(x) for x in bgr_mean], interpolation='bicubic')),
    dict(type='RandomErasing', erase_prob=0.25, mode='rand', min_area_ratio=0.02, max_area_ratio=1 / 3,
         fill_color=bgr_mean, fill_std=bgr_std),
]
replay = dict(type='mmtinyvit.SeededAugment', transforms=view_transforms, base_seed=0)
test_pipeline = [
    dict(type='mmtinyvit.LoadImage'),
    dict(type='ResizeEdge', scale=image_size * 256 // 224, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=image_size),
    dict(type='PackInputs'),
]

# ---------------------------------------------------------------- images
batch_size = {batch}
images = dict(
    {spell_images(plan.train).replace('        ann', '    ann')})
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=workers,
    persistent_workers=workers > 0,
    pin_memory=True,
    drop_last={plan.train.count % batch == 1},  # BatchNorm cannot be trained with a batch of one image
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        **images,
        pipeline=[dict(type='mmtinyvit.LoadImage'), replay, dict(type='mmtinyvit.PackViewInputs')]))
test_dataloader = dict(
    batch_size=batch_size,
    num_workers=workers,
    persistent_workers=workers > 0,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        {spell_images(plan.val or plan.train)},
        pipeline=test_pipeline))
test_evaluator = dict(type='Accuracy', topk=(1, ))
test_cfg = dict()

# ---------------------------------------------------------------- runtime
default_scope = 'mmpretrain'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='mmtinyvit.VisualizationHook', enable=False),
    host_memory=dict(type='mmtinyvit.HostMemoryHook'))
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
randomness = dict(seed=0, deterministic=False)
'''


def teacher_text(settings: Settings, plan: Plan, teacher: Teacher) -> str:
    """The teacher and what it saves."""
    size = {} if teacher.side in (None, plan.size) else dict(input_size=teacher.side)
    load = f'\nload_from = {_absolute(teacher.checkpoint)!r}' if teacher.checkpoint else ''
    named = settings.classes or teacher.classes
    classes = f',\n                classes={_absolute(named)!r}' if named else ''
    return f'''"""The teacher, {teacher.name}, and what is kept of what it says.

    mmtinyvit save {{this file}}
"""
_base_ = 'data.py'

{spell_imports(teacher.imports)}model = {spell(teacher.model)}
data_preprocessor = {spell(dict(type='mmtinyvit.ReplayDataPreprocessor', **teacher.preprocessor, **size))}{load}

train_dataloader = None
test_dataloader = dict(_delete_=True, batch_size=_base_.batch_size, num_workers=_base_.workers,
                       dataset=_base_.train_dataloader.dataset)
test_cfg = dict(type='mmtinyvit.SaveLogitsLoop', views=(0, _base_.num_views), topk=_base_.topk{classes})
'''


def student_text(settings: Settings, plan: Plan, student: Student) -> str:
    """The student that learns from the store alone."""
    metric = "dict(type='Accuracy', topk=(1, ))" if plan.index is None else (
        f"dict(\n    type='mmtinyvit.MappedAccuracy', num_classes={plan.num_classes}, topk=(1, ),\n"
        f'    index={spell(plan.index, 10)})')
    validation = '# no labels that name classes of the teacher: of the test only the pipeline is used, by publish'
    if plan.val:
        validation = (f'val_dataloader = _base_.test_dataloader\nval_evaluator = test_evaluator = {metric}\n'
                      'val_cfg = dict()')
    every = f', val_interval={max(1, settings.epochs // VALIDATIONS)}' if plan.val else ''
    return f'''"""The student, {student.name}, distilled from the store without labels and without the teacher.

    mmtinyvit train {{this file}}
"""
_base_ = 'data.py'

{spell_imports(student.imports)}model = {spell(student.for_classes(plan.num_classes, True))}
data_preprocessor = {spell(dict(num_classes=plan.num_classes, **student.preprocessor))}
custom_hooks = [dict(type='mmtinyvit.SparseLogitDistillHook')]
train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mmtinyvit.LoadImage'),
        _base_.replay,
        dict(type='mmtinyvit.LoadTeacherLogits'),
        dict(type='mmtinyvit.PackViewInputs'),
    ]))
{validation}

{schedule_text(settings.epochs, settings.lr, every)}'''


def schedule_text(epochs: int, lr: float, every: str) -> str:
    """AdamW, a warm-up and a cosine."""
    warm = max(1, min(5, epochs // WARM_UP))
    return f'''# The rate is that of one process; with several, --auto-scale-lr follows their number.
epochs = {epochs}
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr={lr:g}, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0., custom_keys={{'attention_biases': dict(decay_mult=0.)}}),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end={warm}, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, end=epochs, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=_base_.batch_size)
train_cfg = dict(by_epoch=True, max_epochs=epochs{every})
'''


# ---------------------------------------------------------------- finetuning
def finetune_text(settings: Settings, plan: Plan, student: Student, checkpoint: str) -> str:
    """The student with a new head, trained with labels."""
    train, val = plan.finetune_train, plan.finetune_val
    batch = _batch_size(settings, train.count)
    return f'''"""The student finetuned on {len(train.classes):,} classes, with labels.

    mmtinyvit train {{this file}}
"""
_base_ = 'data.py'

{spell_imports(student.imports)}model = {spell(student.for_classes(len(train.classes), False))}
data_preprocessor = {spell(dict(num_classes=len(train.classes), **student.preprocessor))}
load_from = {checkpoint!r}
custom_hooks = [
    dict(type='mmtinyvit.NewHeadHook'),
    dict(type='mmtinyvit.RequireWeightsHook'),
    dict(type='mmtinyvit.EpochClockHook'),
]
train_dataloader = dict(
    batch_size={batch},
    drop_last={train.count % batch == 1},
    dataset=dict(
        _delete_=True,
        {spell_images(train)},
        pipeline=_base_.train_dataloader.dataset.pipeline))
test_images = dict(
        {spell_images(val)},
        pipeline=_base_.test_pipeline)
val_dataloader = dict(**{{**_base_.test_dataloader, 'dataset': test_images}})
test_dataloader = dict(_delete_=True, **val_dataloader)
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1, ))
val_cfg = dict()

{schedule_text(settings.finetune_epochs, settings.lr / 4, f', val_interval={max(1, settings.finetune_epochs // 5)}')}'''


def _absolute(path: str) -> str:
    """A file's path, also for other folders; a URL or the name of a layout as it is."""
    return os.path.abspath(path) if os.path.exists(path) else path


def _batch_size(settings: Settings, count: int) -> int:
    return max(2, min(settings.batch_size, count))
