import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from tiny_flow import photo_dataset, runtime, student

from mmtinyvit.engine.hooks.start import map_rows
from mmtinyvit.evaluation.class_map import in21k_to_in1k_index


def test_map_rows():
    rows = torch.arange(12.).reshape(4, 3)
    mapped = map_rows(rows, torch.tensor([2, -1, 0]))
    assert mapped.tolist() == [[6, 7, 8], [4.5, 5.5, 6.5], [0, 1, 2]]


def finetuning(photos, tmp_path, model, checkpoint):
    return Config(runtime(tmp_path / 'work') | dict(
        model=model, load_from=str(checkpoint),
        train_dataloader=dict(batch_size=7, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                              collate_fn=dict(type='default_collate'), dataset=photo_dataset(photos)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.)), train_cfg=dict(by_epoch=True, max_epochs=1),
        custom_hooks=[dict(type='mmtinyvit.EpochClockHook'), dict(type='mmtinyvit.MapHeadHook')]))


def test_head_is_mapped_before_the_model_takes_it(photos, tmp_path):
    init_default_scope('mmpretrain')
    model = student(num_classes=1000) | dict(type='ImageClassifier')
    state = MODELS.build(model).state_dict()
    state |= {'head.fc.weight': torch.randn(21841, 16), 'head.fc.bias': torch.randn(21841)}
    torch.save(dict(state_dict=state), tmp_path / 'distilled.pth')

    runner = Runner.from_cfg(finetuning(photos, tmp_path, model, tmp_path / 'distilled.pth'))
    runner.train()
    index = torch.from_numpy(in21k_to_in1k_index().copy())
    fc = runner.model.head.fc
    assert torch.equal(fc.weight[index >= 0], state['head.fc.weight'][index[index >= 0]])
    assert torch.allclose(fc.weight[index < 0], state['head.fc.weight'].mean(0), atol=1e-6)
    assert torch.equal(fc.bias[index >= 0], state['head.fc.bias'][index[index >= 0]])
    assert int((index < 0).sum()) == 1
