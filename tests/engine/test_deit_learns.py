"""Distillation repairs wrong labels: the student of a good teacher is far better than one of the labels alone."""
from mmengine.runner import Runner
from noisy_digits import noisy_config, noisy_student, noisy_teacher, write_noisy_digits

TARGETS = dict(none=None, hard=dict(type='mmtinyvit.HardDistillationLoss'),
               soft=dict(type='mmtinyvit.SoftDistillationLoss', temperature=3.))


def top1(config) -> float:
    runner = Runner.from_cfg(config)
    runner.train()
    return runner.message_hub.get_scalar('val/accuracy/top1').current()


def test_half_of_the_labels_are_wrong(tmp_path):
    data = write_noisy_digits(tmp_path / 'digits', seed=0)
    said = top1(noisy_config(data, tmp_path / 'teacher', 'teacher', noisy_teacher(), epochs=6, seed=0, rate=3e-3))
    assert said > 90
    found = {name: top1(noisy_config(data, tmp_path / name, 'student', noisy_student(
        tmp_path / 'teacher/epoch_6.pth', distill), epochs=14, seed=0, batch_size=60, rate=5e-3))
             for name, distill in TARGETS.items()}
    assert found['hard'] >= found['none'] + 8, found
    assert found['soft'] >= found['none'] + 12, found
