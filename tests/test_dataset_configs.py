"""The data of the recipes: they build, say what is missing, and run on images of the right layout."""
import numpy as np
import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, METRICS
from PIL import Image
from torchvision import transforms

from mmtinyvit.datasets import set_view
from mmtinyvit.datasets.images.scan import index_images
from mmtinyvit.errors import UserError
from mmtinyvit.paths import config_root

NAMES = ['_base_/imagenet1k', 'tinyvit/distill_in21k', 'tinyvit/tiny_vit_21m_in1k', 'tinyvit/tiny_vit_21m_linear_in1k',
         'tinyvit/tiny_vit_21m_finetune_in1k_384', 'tinyvit/tiny_vit_21m_finetune_in1k_512', 'deit/deit_tiny_in1k',
         'deit/deit_tiny_in1k_384']
LOADERS = ('train_dataloader', 'test_dataloader')


def load(name: str) -> Config:
    init_default_scope('mmpretrain')
    return Config.fromfile(config_root() / f'{name}.py')


@pytest.fixture
def images(tmp_path):
    """One photo-sized image in each of two classes, under train/ and val/."""
    for split in ('train', 'val'):
        for number, name in enumerate(('n01440764', 'n01443537')):
            (tmp_path / split / name).mkdir(parents=True)
            pixels = np.random.default_rng(number).integers(0, 256, (300, 400, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / name / f'{name}_1.JPEG')
    return tmp_path


def on(config: Config, loader: str, images) -> dict:
    """The config's data set, on the two images."""
    dataset = config[loader].dataset
    if 'dataset' in dataset:
        return dataset | dict(dataset=on({loader: ConfigDict(dataset=dataset.dataset)}, loader, images))
    dataset.pipeline = [each for each in dataset.pipeline if each['type'] != 'mmtinyvit.LoadTeacherLogits']
    if dataset.type == 'mmtinyvit.IndexedImages':
        index_images(images / 'train', images / 'train/images.index')
        return dataset | dict(data_root=str(images / 'train'), num_classes=2)
    return dataset | dict(data_root=str(images), metainfo=dict(classes=('tench', 'goldfish')))


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('loader', LOADERS)
def test_missing_data_is_one_sentence_with_the_source(name, loader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r'data/imagenet(21k|)/?\S* does not exist: get ImageNet.* https://image-net.org'):
        DATASETS.build(load(name)[loader].dataset)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('loader', LOADERS)
def test_loaders_give_packed_images_of_the_configured_size(name, loader, images):
    config = load(name)
    dataset = DATASETS.build(on(config, loader, images))
    num_clocks = set_view(dataset, 3)
    batch = next(iter(Runner.build_dataloader(
        config[loader] | dict(dataset=dataset, batch_size=2, num_workers=0, persistent_workers=False))))
    samples = batch['data_samples']
    first_view = 3 * getattr(dataset, 'num_repeats', 1)
    assert batch['inputs'].shape == (2, 3, config.image_size, config.image_size)
    assert sorted(sample.gt_label.item() for sample in samples) == [0, 1]
    assert num_clocks == (loader == 'train_dataloader')
    if num_clocks:
        keys = {'n01440764/n01440764_1.JPEG', 'n01443537/n01443537_1.JPEG'}
        assert {sample.sample_key for sample in samples} == keys and {sample.view for sample in samples} == {
            first_view}


@pytest.mark.parametrize('name', NAMES)
def test_metric_matches_the_head(name):
    config = load(name)
    metric = METRICS.build(config.val_evaluator)
    assert tuple(metric.topk) == (1, 5)
    assert getattr(metric, 'num_classes', 1000) == config.data_preprocessor.get('num_classes', 1000)
    assert config.val_dataloader == config.test_dataloader and config.val_evaluator == config.test_evaluator


def test_centre_crop_equals_torchvision(images):
    """The 224 px test view against the original's: bicubic, short side 256, centre."""
    config = load('_base_/imagenet1k')
    dataset = DATASETS.build(on(config, 'test_dataloader', images))
    reference = transforms.Compose([
        transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.PILToTensor(),
    ])
    sample = dataset[0]
    with Image.open(sample['data_samples'].img_path) as image:
        expected = reference(image)
    assert (sample['inputs'][[2, 1, 0]].int() - expected.int()).abs().max() <= 2  # two JPEG decoders
