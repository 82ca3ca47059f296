"""The flags of tools/test.py that mmpretrain's, mmdet's and mmseg's have: augmented tests, and pictures."""
import json

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from tiny_flow import photo_dataset, runtime, student

MODEL = student(3) | dict(type='ImageClassifier')
PIPELINE = [dict(type='mmtinyvit.LoadImage'), dict(type='Resize', scale=(32, 32)), dict(type='PackInputs')]


@pytest.fixture
def network(tmp_path):
    """A classifier of three classes, in ``trained.pth`` as a training with averages leaves it."""
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(MODEL).eval()
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.uniform_(.5, 1.5) if 'var' in name else value.add_(torch.randn_like(value) * .3)
    state = model.state_dict()
    torch.save(dict(state_dict=state, ema_state_dict={f'module.{name}': value * 0 for name, value in state.items()},
                    meta={}), tmp_path / 'trained.pth')
    return model


@pytest.fixture
def tested(photos, tmp_path, network, run_tool):
    """Test it with ``flags``; the metrics, or what went wrong."""
    def run(*flags, **changes) -> dict | str:
        Config(runtime(tmp_path / 'work') | dict(
            model=MODEL, data_preprocessor=dict(mean=[120.] * 3, std=[60.] * 3, to_rgb=True),
            test_dataloader=dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                                 collate_fn=dict(type='default_collate'),
                                 dataset=photo_dataset(photos) | dict(pipeline=PIPELINE)),
            test_cfg=dict(), test_evaluator=dict(type='Accuracy', topk=1),
            default_hooks=dict(visualization=dict(type='VisualizationHook'))) | changes,
            format_python_code=False).dump(tmp_path / 'config.py')
        ended = run_tool('test', tmp_path / 'config.py', tmp_path / 'trained.pth', '--out', tmp_path / 'out.json',
                         *flags)
        run.out = ended.out
        return ended.err if ended.status else json.loads((tmp_path / 'out.json').read_text())

    return run


def test_results_of_many_numbers_are_shown_and_written(tested):
    found = tested(test_evaluator=dict(type='mmpretrain.ConfusionMatrix', num_classes=3))['confusion_matrix/result']
    assert np.shape(found) == (3, 3) and np.sum(found) == 14
    assert all(str(row) in tested.out for row in found) and 'System environment' not in tested.out


def expected(network: torch.nn.Module, photos, augmented: bool) -> float:
    """The accuracy, without a runner: the scores of each photo, or their mean with those of its mirror image."""
    right = []
    for label, folder in enumerate(sorted(photos.iterdir())):
        for path in sorted(folder.iterdir()):
            image = torch.from_numpy(mmcv.imresize(mmcv.imread(path, channel_order='rgb'), (32, 32)).copy())
            images = (image.permute(2, 0, 1)[None].float() - 120) / 60  # (1, 3, 32, 32)
            with torch.no_grad():
                score = network(torch.cat([images, images.flip(3)]), mode='tensor').softmax(1)  # (2, 3)
            right.append(int((score.mean(0) if augmented else score[0]).argmax()) == label)
    return 100 * float(np.mean(right))


def test_mirror_images(tested, network, photos):
    plain, augmented = (expected(network, photos, augmented) for augmented in (False, True))
    assert plain != augmented
    assert tested()['accuracy/top1'] == pytest.approx(plain)
    assert tested('--tta')['accuracy/top1'] == pytest.approx(augmented)
    ema = dict(default_hooks=dict(ema=dict(type='mmtinyvit.AverageWeightsHook', momentum=.1)))
    assert tested('--tta', **ema)['accuracy/top1'] == pytest.approx(augmented)
    # the model's own preprocessor comes before the config's, with and without
    own = dict(model=MODEL | dict(data_preprocessor=dict(mean=[120.] * 3, std=[60.] * 3, to_rgb=True)),
               data_preprocessor=dict(mean=[0.] * 3, std=[1.] * 3))
    assert tested('--tta', **own)['accuracy/top1'] == pytest.approx(augmented)
    # what the config says
    chosen = dict(tta_model=dict(type='AverageClsScoreTTA'), tta_pipeline=[
        PIPELINE[0], dict(type='TestTimeAug', transforms=[[dict(type='RandomFlip', prob=0.)], *[[step] for step in
                                                                                            PIPELINE[1:]]])])
    assert tested('--tta', **chosen)['accuracy/top1'] == pytest.approx(plain)


@pytest.mark.parametrize(('interval', 'flags'), [(2, ()), (7, ()), (1, ('--tta', ))])
def test_pictures(tested, photos, tmp_path, interval, flags):
    """Of each n-th photo, of the pixels that were tested and in their colours, but for the text in a corner."""
    tested('--show-dir', tmp_path / 'pictures', '--interval', interval, *flags)
    files = sorted(photos.glob('*/*.png'))[::interval]
    drawn = sorted((tmp_path / 'pictures').iterdir())
    assert [path.name for path in drawn] == [f'{path.parent.name}_{path.name}_0.png' for path in files]
    for path, photo in zip(drawn, files, strict=True):
        picture, pixels = mmcv.imread(path), mmcv.imresize(mmcv.imread(photo), (32, 32))
        rest = abs(picture.astype(int) - pixels)[20:]
        assert picture.shape == (32, 32, 3) and rest.mean() < 8, rest.mean()


def test_labels_of_other_classes_are_not_drawn(tested, tmp_path, monkeypatch):
    """The names at hand are those of the model."""
    drawn = []
    monkeypatch.setattr('mmpretrain.visualization.UniversalVisualizer.visualize_cls',
                        lambda self, image, sample, draw_gt=True, **kwargs: drawn.append(draw_gt))
    tested('--show-dir', tmp_path)
    trained = torch.load(tmp_path / 'trained.pth')
    for name in ('head.fc.weight', 'head.fc.bias'):
        trained['state_dict'][name] = trained['state_dict'][name].repeat_interleave(4, 0)
    torch.save(trained, tmp_path / 'trained.pth')
    tested('--show-dir', tmp_path, model=MODEL | dict(head=MODEL['head'] | dict(num_classes=12)), test_evaluator=dict(
        type='mmtinyvit.MappedAccuracy', num_classes=12, index=[4, 10, 2], topk=1))
    assert drawn == [True] * 14 + [False] * 14


def test_what_cannot_be_drawn_or_merged(tested):
    assert 'has no hook that draws: add visualization=dict(type=' in tested('--show-dir', 'x', default_hooks={})
    both = dict(test_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=[dict(pipeline=[])])))
    assert '--tta changes the pipeline of a test, and ConcatDataset has none of its own' in tested('--tta', **both)
    assert '--show needs a display, and there is none: write files with --show-dir.' in tested('--show')
