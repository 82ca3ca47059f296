"""Candidates' recipes, their trainings in parts, and how they are judged."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from tiny_flow import labelled_loader

from mmtinyvit.config import read_config
from mmtinyvit.contraction.recipe import Recipe
from mmtinyvit.contraction.trials import Trial, carry_on
from mmtinyvit.datasets.load_teacher_logits import use_store
from mmtinyvit.datasets.view_dataset import ViewDataset
from mmtinyvit.errors import UserError
from mmtinyvit.store import LogitStore


@pytest.fixture
def trial(write_recipe, tmp_path):
    """Prepares a trial of the seed in a folder; the recipe's stochastic depth draws random numbers."""

    def make(name: str, judge: str = 'divergence', change=lambda cfg: None) -> Trial:
        def with_drops(cfg: Config) -> None:
            cfg.model.backbone.drop_path_rate = 0.5
            change(cfg)

        recipe, folder = Recipe(read_config(write_recipe(with_drops))), tmp_path / name
        keys = recipe.hold_out(tmp_path / 'keys', 0.34)
        folder.mkdir()
        cfg = recipe.candidate(recipe.seed, keys, 3, judge == 'accuracy', seed=0)
        (folder / 'config.py').write_text(cfg.pretty_text)
        return Trial(str(folder), judge, str(keys.judging), keys.views)

    return make


def test_a_training_in_parts_is_one_training(trial):
    parts, whole = trial('parts'), trial('whole')
    first = carry_on(parts, 1).value
    Path(parts.folder, 'last_checkpoint').write_text('')  # killed while MMEngine wrote it
    Path(parts.folder, 'epoch_2.pth.part').write_text('')  # and in the midst of the next checkpoint
    assert carry_on(parts, 1).value == first
    assert carry_on(parts, 3).value == carry_on(whole, 3).value != first
    weights = [torch.load(Path(each.folder, 'epoch_3.pth'), weights_only=False)['state_dict']
               for each in (parts, whole)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_divergence_is_the_mean_over_held_out_views(trial, data):
    """Against one view after the other, in float64, with the store read directly."""
    made = trial('trial')
    value = carry_on(made, 1).value
    recipe = Recipe(read_config(Path(made.folder, 'config.py')))
    model = recipe.build(recipe.seed)
    model.load_state_dict(torch.load(Path(made.folder, 'epoch_1.pth'), weights_only=False)['state_dict'])
    model.eval()
    store, keys = LogitStore(data / 'store'), Path(made.keys).read_text().split()
    dataset = DATASETS.build(recipe.cfg.train_dataloader.dataset | dict(keep=made.keys))
    use_store(dataset, recipe.cfg)
    assert [dataset.get_data_info(i)['sample_key'] for i in range(len(dataset))] == keys and len(keys) == 16
    total, views = 0., ViewDataset(dataset)
    for view in made.views:
        for index, key in enumerate(keys):
            sample = views[view, index]
            batch = dict(inputs=sample['inputs'][None], data_samples=[sample['data_samples']])
            with torch.inference_mode():
                log_q = model(model.data_preprocessor(batch, False)['inputs'])[0].double().log_softmax(0)
            record = store.read(view, [key]).row(0)
            p = torch.full((12, ), float(record.tail_mass) / (12 - len(record.index)), dtype=torch.float64)
            p[torch.from_numpy(record.index)] = torch.from_numpy(record.log_prob).double().exp()
            total += float((torch.xlogy(p, p) - p * log_q).sum())
    assert made.views == (0, 1) and value == pytest.approx(total / 32, rel=1e-5)


def with_validation(data: Path, evaluator: dict):
    def change(cfg: Config) -> None:
        cfg.update(val_dataloader=labelled_loader(data / 'photos'), val_evaluator=evaluator, val_cfg={})

    return change


def test_accuracy_on_a_labelled_set(trial, data):
    made = trial('trial', 'accuracy', with_validation(data, dict(type='Accuracy', topk=(1, ))))
    assert 0 <= carry_on(made, 1).value <= 100
    assert not list(Path(made.folder).rglob('best*')) and len(list(Path(made.folder).glob('epoch_*.pth'))) == 1


def test_a_validation_without_accuracy(trial, data):
    made = trial('trial', 'accuracy', with_validation(data, dict(type='SingleLabelMetric')))
    with pytest.raises(UserError, match='--judge accuracy needs a top-1 accuracy of the validation, which measures '):
        carry_on(made, 1)


def test_parameters_may_count_the_head_of_a_finetuned_student(write_recipe):
    cfg = read_config(write_recipe())
    own, other = Recipe(cfg), Recipe(cfg, 1000)
    assert other.parameters(own.seed) - own.parameters(own.seed) == (1000 - 12) * (32 + 1)
    assert other.macs(own.seed) == own.macs(own.seed) and other.build(own.seed).head.fc.out_features == 12


def test_the_short_recipe(write_recipe, tmp_path):
    def change(cfg: Config) -> None:
        cfg.param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=200),  # iterations
                               dict(type='MultiStepLR', milestones=[10, 16]),
                               dict(type='CosineAnnealingLR', begin=5, end=20, T_max=15)]
        cfg.train_dataloader.dataset.indices = list(range(40))
        cfg.load_from = 'absent.pth'

    recipe = Recipe(read_config(write_recipe(change)))
    keys = recipe.hold_out(tmp_path / 'keys', 0.5, training_share=0.5)
    judged, learnt = keys.judging.read_text().split(), keys.training.read_text().split()
    assert len(judged) == 20 and len(learnt) == 10 and not set(judged) & set(learnt)
    assert keys.share == 0.25  # an epoch has a quarter of the iterations
    smaller = recipe.seed.moved({'D4': 16})
    cfg = recipe.candidate(smaller, keys, 4, labelled=False, seed=3)
    assert [(each.get('begin'), each.get('end'), each.get('milestones'), each.get('T_max'))
            for each in cfg.param_scheduler] == [(None, 10, None, None), (None, None, [2, 3], None), (1, 4, None, 3)]
    assert cfg.train_cfg.max_epochs == 4 and cfg.load_from is None and cfg.randomness.seed == 0
    shortest = recipe.candidate(smaller, keys, 1, labelled=False, seed=3).param_scheduler[2]
    assert (shortest['begin'], shortest['end']) == (0, 1)  # not both 1, which is no schedule
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert [dataset.get_data_info(i)['sample_key'] for i in range(len(dataset))] == learnt
    assert cfg.model.head.in_channels == 16 and recipe.build(smaller).head.fc.in_features == 16
    assert recipe.with_student(smaller).load_from is None  # they are the seed's
    assert recipe.cfg.model.head.in_channels == 32 and recipe.cfg.load_from == 'absent.pth'  # as it was


def test_random_weights_are_those_of_the_seed(write_recipe):
    """Whatever was drawn before: a search that goes on in a new process gives a candidate the weights that it had."""
    recipe, drawn = Recipe(read_config(write_recipe())), []
    for before, seed in ((1, 0), (2, 0), (1, 3)):
        torch.manual_seed(before)
        drawn.append(recipe.draw(recipe.seed, seed).state_dict())
    one, again, other = drawn
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one['backbone.stages.0.blocks.0.conv1.conv.weight'],
                           other['backbone.stages.0.blocks.0.conv1.conv.weight'])
