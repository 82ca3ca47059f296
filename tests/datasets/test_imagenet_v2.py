"""ImageNet-V2: labels are the numbers that the folders are called, not their place in the sorted names."""
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from PIL import Image
from tiny_flow import runtime

from mmtinyvit.cli.runner import check_data
from mmtinyvit.datasets import ImageFolder, ImageNetV2
from mmtinyvit.errors import UserError
from mmtinyvit.evaluation import synsets
from mmtinyvit.paths import config_root

SHOWN = (0, 1, 2, 9, 10, 11, 99, 100, 101, 998, 999)  # the classes that have an image here
FOLDER = 'imagenetv2-matched-frequency-format-val'


@MODELS.register_module()
class ReadsLabels(BaseModel):
    """Scores the class that the colour of an image stands for."""

    def forward(self, inputs: list[torch.Tensor], data_samples: list, mode: str) -> list:
        for image, sample in zip(inputs, data_samples, strict=True):
            blue, green = image[:2, 0, 0].tolist()
            sample.set_pred_score(torch.nn.functional.one_hot(torch.tensor(256 * green + blue), 1000).float())
        return data_samples


def write(root, names) -> None:
    """A folder for each of the 1,000 classes, some with an image whose colour tells its label."""
    for label, name in enumerate(names):
        folder = root / FOLDER / name
        folder.mkdir(parents=True)
        if label in SHOWN:
            colour = np.array([0, label // 256, label % 256], np.uint8)
            Image.fromarray(np.broadcast_to(colour, (4, 5, 3))).save(folder / 'photo.png')


@pytest.fixture
def root(tmp_path):
    write(tmp_path, map(str, range(1000)))
    return tmp_path


def labels(dataset) -> dict[str, int]:
    return {sample['sample_key'].split('/')[0]: sample['gt_label'] for sample in dataset}


def test_labels_are_the_folders_numbers(root):
    assert labels(ImageNetV2(data_root=str(root))) == {str(label): label for label in SHOWN}
    wrong = labels(ImageFolder(data_root=str(root / FOLDER)))  # what the order of the names would give
    assert wrong['2'] == 112 and wrong['10'] == 2


def test_the_older_layout_has_synsets(tmp_path):
    write(tmp_path, synsets('in1k'))
    assert labels(ImageNetV2(data_root=str(tmp_path))) == {synsets('in1k')[label]: label for label in SHOWN}


def test_what_is_no_imagenet_v2(root):
    with pytest.raises(UserError, match='no split .val.: set split .* matched-frequency, threshold0.7, top-images'):
        ImageNetV2(data_root=str(root), split='val')
    with pytest.raises(UserError, match='imagenetv2-top-images-format-val does not exist: from there'):
        ImageNetV2(data_root=str(root), split='top-images', source='from there')
    (root / FOLDER / '0').rename(root / FOLDER / '1000')
    with pytest.raises(UserError, match='has a class folder 1000: those of ImageNet-V2 are called 0 to 999'):
        ImageNetV2(data_root=str(root))
    (root / FOLDER / '5').rmdir()
    with pytest.raises(UserError, match=r'cannot be used: it has 999 class folders'):
        ImageNetV2(data_root=str(root))


def recipe(path, name: str) -> Config:
    """A config of two lines beside a recipe, as a user writes it."""
    bases = [str(config_root() / f'{each}.py') for each in (name, '_base_/imagenet_tests')]
    path.write_text(f'_base_ = {bases}\ntest_dataloader = dict(dataset=_base_.imagenet_v2)\n')
    return Config.fromfile(path)


@pytest.mark.parametrize('name', ['tinyvit/tiny_vit_21m_finetune_in1k', 'tinyvit/tiny_vit_21m_finetune_in1k_384',
                                  'tinyvit/distill_in21k'])
def test_a_recipe_is_tested_on_it_in_its_own_views(name, tmp_path, monkeypatch):
    cfg, plain = recipe(tmp_path / 'config.py', name), Config.fromfile(config_root() / f'{name}.py')
    assert cfg.test_dataloader.dataset.type == 'mmtinyvit.ImageNetV2'
    assert cfg.test_dataloader.dataset.pipeline == plain.test_dataloader.dataset.pipeline
    assert cfg.val_dataloader == plain.val_dataloader and cfg.test_evaluator == plain.test_evaluator
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='needs data/imagenetv2, which does not exist: get imagenetv2-matched'):
        check_data(cfg, 'test_dataloader')
    with pytest.raises(UserError, match=re.escape(FOLDER) + ' does not exist: get imagenetv2'):
        DATASETS.build(cfg.test_dataloader.dataset)


@pytest.mark.parametrize('workers', [0, 2])
def test_a_model_that_is_always_right_scores_100(root, tmp_path, workers):
    cfg = recipe(tmp_path / 'config.py', 'tinyvit/tiny_vit_21m_finetune_in1k')
    loader = cfg.test_dataloader.to_dict() | dict(
        batch_size=4, num_workers=workers, persistent_workers=False, pin_memory=False,
        collate_fn=dict(type='pseudo_collate'))
    loader['dataset'] |= dict(data_root=str(root), pipeline=[dict(type='mmtinyvit.LoadImage'), dict(type='PackInputs')])
    runner = Runner.from_cfg(Config(runtime(tmp_path / 'work') | dict(
        model=dict(type='ReadsLabels'), test_dataloader=loader, test_evaluator=cfg.test_evaluator, test_cfg=dict())))
    assert runner.test() == {'accuracy/top1': 100., 'accuracy/top5': 100.}
