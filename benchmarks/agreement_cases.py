"""What `agreement.py` compares: stores, trainings, and one network of each family, all of them small."""
from pathlib import Path

__all__ = ['PHOTOS', 'SIDE', 'STORES', 'TRAININGS', 'VIEWS', 'dataset', 'networks', 'saving', 'teacher', 'training']

PHOTOS, VIEWS, CLASSES, TOPK, SEED, SIDE = 21, 4, 12, 5, 7, 64
NORM = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
MIXING = dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5)
STORES = {  # what SaveLogitsLoop is told
    **{name: dict(codec=name) for name in ('exact', 'compact', 'smallest')},
    **{f'{name}-mixed': dict(codec=name, mixing=MIXING) for name in ('exact', 'compact', 'smallest')},
    'smallest-mass': dict(codec='smallest', keep_mass=0.9, reference_view=1),
    'smallest-drawn': dict(codec='smallest', sampling=dict(draws=4, power=1.0)),
}
TRAININGS = dict(plain='compact', mixed='smallest-mixed')  # the store that each reads
VIEW = [
    dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.08, 1.0), backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandAugment', policies='timm_increasing', num_policies=2, total_level=10, magnitude_level=9,
         magnitude_std=0.5, hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic')),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    dict(type='RandomErasing', erase_prob=0.25, mode='rand', min_area_ratio=0.02, max_area_ratio=1 / 3,
         fill_color=[103.53, 116.28, 123.675], fill_std=[57.375, 57.12, 58.395]),
]


def dataset(folder: Path, store: Path | None = None) -> dict:
    read = [dict(type='mmtinyvit.LoadTeacherLogits', store=str(store))] if store else []
    augment = dict(type='mmtinyvit.SeededAugment', transforms=VIEW, base_seed=SEED, key_root=str(folder / 'photos'))
    return dict(type='mmtinyvit.ImageFolder', data_prefix=str(folder / 'photos'), pipeline=[
        dict(type='mmtinyvit.LoadImage'), augment, *read, dict(type='mmtinyvit.PackViewInputs')])


def teacher() -> dict:
    return dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=8, stem_channels=8, style='pytorch'),
        neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=64))


def runtime(work_dir: Path) -> dict:
    return dict(default_scope='mmpretrain', work_dir=str(work_dir), randomness=dict(seed=0), launcher='none',
                log_processor=dict(window_size=1), env_cfg=dict(mp_cfg=dict(mp_start_method='fork')))


def saving(folder: Path, work_dir: Path, name: str) -> dict:
    return runtime(work_dir) | dict(
        model=teacher(), data_preprocessor=NORM, test_evaluator=dict(type='Accuracy'),
        test_dataloader=dict(batch_size=3, num_workers=0, dataset=dataset(folder)),
        test_cfg=dict(type='mmtinyvit.SaveLogitsLoop', store='', topk=TOPK, samples_per_shard=8) | STORES[name])


def training(folder: Path, work_dir: Path, name: str) -> dict:
    sampler, preprocessor = dict(type='DefaultSampler', shuffle=True), NORM
    if name == 'mixed':
        sampler = dict(type='mmtinyvit.PairedSampler', base_seed=SEED)
        preprocessor = dict(type='mmtinyvit.ReplayDataPreprocessor', mixing=dict(MIXING, base_seed=SEED), **NORM)
    arch = dict(embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_sizes=(7, 4, 4, 4))
    return runtime(work_dir) | dict(
        model=dict(type='mmtinyvit.DistillClassifier', backbone=dict(type='mmtinyvit.TinyViT', arch=arch),
                   head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=16)),
        data_preprocessor=preprocessor,
        train_dataloader=dict(batch_size=6, num_workers=0, sampler=sampler, collate_fn=dict(type='default_collate'),
                              dataset=dataset(folder, folder / 'stores' / TRAININGS[name])),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)), train_cfg=dict(by_epoch=True, max_epochs=2),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=[dict(type='mmtinyvit.SparseLogitDistillHook')])


def networks(folder: Path) -> dict[str, dict]:
    """One of each family, by name; all take images of 64 pixels."""
    def classifier(backbone: str, channels: int, neck: list | None = None, **settings) -> dict:
        head = dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=channels)
        return dict(type='mmpretrain.ImageClassifier', backbone=dict(type=f'mmtinyvit.{backbone}') | settings,
                    neck=neck, head=head)

    def vit(dims: int) -> dict:
        arch = dict(embed_dims=dims, num_layers=3, num_heads=4, feedforward_channels=2 * dims)
        return dict(type='mmpretrain.VisionTransformer', arch=arch, img_size=SIDE, patch_size=8)

    pool = dict(type='mmpretrain.GlobalAveragePooling')
    former = dict(type='mmtinyvit.MobileFormerClsHead', num_classes=10, in_channels=192, token_dims=192,
                  hidden_channels=1920)
    mim = dict(type='mmtinyvit.TinyMIM', teacher=dict(backbone=vit(32), checkpoint=str(folder / 'vit.pth')))
    return {
        'TinyViT': classifier('TinyViT', 320, arch='5m'),
        'DeiT, distilled': dict(
            type='mmtinyvit.DeiTDistillClassifier', alpha=0.,
            backbone=dict(type='mmtinyvit.DistilledDeiT', arch='deit-tiny', img_size=SIDE),
            head=dict(type='mmtinyvit.DeiTDistillHead', num_classes=10, in_channels=192)),
        'TinyMIM, ViT': mim | dict(backbone=vit(16)),
        'TinyMIM, TinyViT': mim | dict(backbone=dict(type='mmtinyvit.TinyViT', arch=dict(
            embed_dims=(8, 8, 32, 32), depths=(1, 1, 2, 1), num_heads=(1, 1, 4, 4), window_sizes=(7, 4, 4, 4)))),
        'DenseViT': dict(type='mmtinyvit.DenseViT', arch='deit-tiny', img_size=SIDE),
        'CLIPVisionTower': dict(type='mmtinyvit.CLIPVisionTower', img_size=SIDE, patch_size=16, width=32, depth=2,
                                num_heads=2, out_channels=24),
        'MobileViT': classifier('MobileViT', 320, [pool], arch='xx_small'),
        'Mobile-Former': classifier('MobileFormer', 192, arch='294m') | dict(head=former),
        'TopFormer, classifier': classifier('TopFormer', 208, [pool], arch='tiny', pool_stride=1, inject=False),
        'TopFormer, maps': dict(type='mmtinyvit.TopFormer', arch='tiny'),
    }
