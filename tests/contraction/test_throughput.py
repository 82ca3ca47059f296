"""What was measured is remembered, on the machine and in the setting where it was."""
import json

from mmengine.config import Config

from mmtinyvit.config import read_config
from mmtinyvit.contraction import throughput
from mmtinyvit.contraction.recipe import Recipe
from mmtinyvit.contraction.throughput import Throughput


def test_measured_once(write_recipe, tmp_path, monkeypatch):
    recipe, file = Recipe(read_config(write_recipe())), tmp_path / 'throughput.jsonl'
    smaller = [recipe.seed.moved({'D4': width}) for width in (8, 16, 24)]
    counts = []
    first = Throughput(recipe, file, 'cpu', 2).of(smaller, counts.append)
    assert all(each > 0 for each in first) and counts == [3]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line['name'] for line in lines] == [recipe.seed.name, *(each.name for each in smaller)]
    assert '2 images of 32 x 32; 12 classes; against d8-16-24-32' in lines[0]['setting']

    monkeypatch.setattr(throughput, 'compare', None)  # nothing more is measured
    assert Throughput(recipe, file, 'cpu', 2).of(smaller[::-1]) == first[::-1]
    monkeypatch.undo()
    Throughput(recipe, file, 'cpu', 3).of(smaller[:1])  # another batch
    assert len(file.read_text().splitlines()) == 6


def test_a_network_that_computes_less_is_faster(write_recipe, tmp_path):
    def change(cfg: Config) -> None:
        cfg.model.backbone.arch = dict(embed_dims=(64, 64, 64, 64), depths=(8, 1, 1, 1), num_heads=(1, 1, 1, 1),
                                       window_sizes=(7, 4, 2, 1))
        cfg.model.head.in_channels = 64

    recipe = Recipe(read_config(write_recipe(change)))
    slow, fast = Throughput(recipe, tmp_path / 'throughput.jsonl', 'cpu', 4).of(
        [recipe.seed, recipe.seed.moved({'N1': 1, 'R': 2})])
    assert fast > slow
