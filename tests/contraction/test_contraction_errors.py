"""What cannot be contracted, or not so: one sentence that names the thing and the way out."""
import pytest

from mmtinyvit.cli.contract import build_parser

FAR = ('--params', '8000', '--steps', '1', '--moves', '1', '--reach', '1')  # beyond the seed's neighbours


@pytest.fixture
def refused(write_recipe, tmp_path, run_tool):
    """The sentence that ``tools/contract.py`` ends with."""

    def run(*flags: str, change=lambda cfg: None) -> str:
        flags = flags if '--params' in flags else ('--params', '20k', *flags)
        held_out = () if '--held-out' in flags else ('--held-out', '0.34')
        return run_tool('contract', write_recipe(change), '--out', tmp_path / 'out', '--measured', 2, '--batch-size', 1,
                        *held_out, *flags).sentence

    return run


# ---------------------------------------------------------------- limits
def test_no_candidate_is_small_enough(refused):
    assert refused('--params', '1000') == (
        'The smallest architecture of the space, d8-8-8-8_n1-1-1-1_w4-2-1_r2_m2_e8, has 3,853 parameters, and --params '
        'is 1,000: give more, or smaller values with --space.')
    sentence = refused(*FAR)
    assert sentence.startswith('Step 1 of 1 needs a candidate with 7,200 to 8,000 parameters, and the nearest, d')
    assert sentence.endswith('give more --steps, --moves or --reach, a wider --slack, or other values with --space.')


def test_no_candidate_is_fast_enough(refused):
    sentence = refused('--throughput', '10000x', '--params', '30k', '--steps', '1')
    assert 'parameters and at least ' in sentence and 'images/s, and the nearest of ' in sentence
    assert sentence.endswith(' images/s: give a lower --throughput, a wider --slack, or more --measured.')


def test_a_target_that_is_no_smaller(refused):
    sentence = refused('--params', '5M')
    assert 'has 37,588 parameters, and --params is 5,000,000: a contraction makes it smaller, so give less.' in sentence


# ---------------------------------------------------------------- recipes
def test_a_recipe_without_a_store(refused):
    def change(cfg):
        cfg.train_dataloader.dataset.pipeline.pop(2)

    assert 'recipe.py reads no store: a contraction needs a distillation recipe' in refused(change=change)


def test_accuracy_without_a_validation(refused):
    assert refused('--judge', 'accuracy').endswith(
        'recipe.py has no val_dataloader: name a config that has one, or add it.')


def test_a_recipe_that_asks_a_teacher(refused):
    def change(cfg):
        cfg.mode = 'auto'

    assert "mode='auto' of " in (sentence := refused(change=change)) and 'asks a teacher, once for each' in sentence


def test_a_store_with_too_few_keys(refused):
    sentence = refused('--held-out', '0.01')
    assert ('store has 48 keys here, of which --held-out 0.01 leaves 0 to judge by, and 16 are the fewest that tell '
            'anything: give --held-out 0.334 or more.') in sentence


@pytest.mark.parametrize('flags, left', [(['--held-out', '1'], '--held-out 1 and --share 1 leave 0'),
                                         (['--share', '0.1'], '--held-out 0.34 and --share 0.1 leave 3')])
def test_too_few_keys_to_learn_from(refused, flags, left):
    assert refused(*flags).endswith(f'store has 48 keys here, of which {left} to learn from, fewer than one batch of '
                                    '8: give a smaller --held-out or a larger --share.')


def test_another_student(refused):
    def change(cfg):
        cfg.model.backbone = dict(type='ResNet_CIFAR', depth=18)

    assert ('The student of ' in (sentence := refused(change=change))
            and 'is ResNet_CIFAR, and a contraction shrinks mmtinyvit.TinyViT' in sentence)


def test_a_head_that_the_formula_does_not_know(refused):
    def change(cfg):
        cfg.model.head = dict(type='StackedLinearClsHead', num_classes=12, in_channels=32, mid_channels=[16])

    assert 'and a TinyViT with a linear head has 37,588: take LinearClsHead' in refused(change=change)


def test_weights_of_the_seed(refused):
    def change(cfg):
        cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='seed.pth')

    assert 'loads the weights of one architecture, and a contraction has many: leave it out' in refused(change=change)


def test_samples_that_cannot_be_left_out(refused):
    def change(cfg):
        dataset = cfg.train_dataloader.dataset
        dataset.update(type='CustomDataset')

    assert ('CustomDataset cannot leave out the samples that candidates are judged by: take mmtinyvit.IndexedImages'
            in refused(change=change))


def test_iterations_instead_of_epochs(refused):
    def change(cfg):
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=10)

    assert 'recipe.py counts no epochs: a contraction needs by_epoch=True and max_epochs.' in refused(change=change)


# ---------------------------------------------------------------- flags
def test_factors(refused):
    assert refused('--factors', 'D', 'Q') == ("There is no factor 'Q': choose of D, N, W (all stages), R, M, E, or of "
                                              'one stage, D1 to D4, N1 to N4, W2 to W4.')
    assert "There is no factor 'K': choose of D, N, W" in refused('--space', 'K=3')
    assert "'D=x' gives no values of a factor: write, for example, D=32:448:32" in refused('--space', 'D=x')


@pytest.mark.parametrize('flags, sentence', [
    (['--eta', '1'], '--eta 1 stops nobody: give 2 or more.'),
    (['--epochs', '2', '--first-rung', '3'], '--first-rung 3 is more than --epochs 2: give less.'),
    (['--keep', '13'], '--keep 13 is more than --candidates 12: give less.'),
    (['--checkpoint', 'seed.pth'], '--checkpoint has weights to inherit: give --inherit too.'),
    (['--checkpoint', 'absent.pth', '--inherit'], 'There is no checkpoint absent.pth: check the path.'),
    (['--amp'], '--amp needs a GPU, and none is found here: train without it.'),
    (['--device', 'cuda:7'], '--device cuda:7 is not on this machine: give cpu, cuda or cuda:N, of a device that is '
                             'there.'),
])
def test_flags_that_do_not_go_together(refused, flags, sentence):
    assert refused(*flags) == sentence


def test_numbers(capsys):
    parser = build_parser()
    assert parser.parse_args('r --params 5.4m --out o'.split()).parameters == 5_400_000
    args = parser.parse_args('recipe.py --params 5.4M --throughput 1.5x --out out'.split())
    assert args.parameters == 5_400_000 and args.throughput == (1.5, True)
    assert parser.parse_args('r --params 900k --throughput 400 --out o'.split()).throughput == (400., False)
    for wrong in ('--params five', '--params 0', '--params 1M --throughput 0x', '--params 1M --held-out 2',
                  '--params 1M --seed -1'):
        with pytest.raises(SystemExit):
            parser.parse_args(f'recipe.py --out out {wrong}'.split())
    assert "'five' is no number of parameters, for example 5.4M or 900k" in capsys.readouterr().err


def test_another_search_in_the_folder(refused, tmp_path):
    journal = tmp_path / 'out/contraction.jsonl'
    refused(*FAR, '--held-out', '0.4')
    with journal.open('a') as file:  # a first step, and a line that a killed process left incomplete
        file.write('{"event": "candidates", "step": 1, "candidates": []}\n{"event": "jud')
    sentence = refused(*FAR, '--steps', '2')
    assert 'that differs in steps, held_out (steps is 1 there and 2 here): choose another --out' in sentence
    assert journal.read_text().endswith('{"event": "jud')  # it is theirs


def test_a_search_that_found_nothing_may_be_changed(refused, tmp_path):
    assert 'Step 1 of 1 needs' in refused(*FAR)
    assert 'Step 1 of 2 needs' in refused(*FAR, '--steps', '2')
    assert len((tmp_path / 'out/contraction.jsonl').read_text().splitlines()) == 1


def test_a_lost_journal(refused, tmp_path):
    (tmp_path / 'out/trials').mkdir(parents=True)
    assert 'out has trainings of a search whose contraction.jsonl is gone: choose another --out' in refused()


def test_a_folder_that_cannot_be_made(refused, tmp_path):
    (tmp_path / 'out').write_text('a file')
    assert 'out cannot be written to (File exists): choose another --out.' in refused()


def test_a_journal_that_is_none(refused, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/contraction.jsonl').write_text('not JSON\n')
    assert 'out/contraction.jsonl cannot be read as JSON lines (' in refused()
