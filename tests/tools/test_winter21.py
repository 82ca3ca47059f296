"""The commands of the README for ImageNet-21K, every one, on a miniature of winter21_whole.tar with broken files in it.

The photos are real where MMTINYVIT_DATA names them, and noise elsewhere. The configs are the real ones, with smaller
networks and two epochs.
"""
import io
import os
import re
import shlex
import tarfile
from pathlib import Path

import numpy as np
import torch
from file_server import file_server
from mmengine.registry import MODELS
from PIL import Image
from tiny_recipes import TINY

from mmtinyvit.datasets.images.index import ImageIndex
from mmtinyvit.evaluation import synsets
from mmtinyvit.models.checkpoint_keys import CLIP_NAMES
from mmtinyvit.store import LogitStore

ROOT = Path(__file__).resolve().parents[2]
DATA = os.environ.get('MMTINYVIT_DATA')
SYNSETS = ('n01440764', 'n02102040', 'n02979186')  # classes of Imagenette; 21,838 of the teacher's are missing
PER_CLASS = 4
TOWER = dict(patch_size=32, width=32, depth=1, num_heads=1, out_channels=32)
LOADER = dict(batch_size=3, num_workers=0, persistent_workers=False, pin_memory=False)
VAL = dict(LOADER, dataset=dict(metainfo=dict(classes=SYNSETS)))
STUDENT = dict(model=dict(backbone=dict(arch=dict(TINY, _delete_=True)), head=dict(in_channels=32)),
               val_dataloader=VAL, test_dataloader=VAL, train_cfg=dict(max_epochs=2))
CHANGES = {
    'teachers/clip_vit_l14_in21k.py': dict(
        model=dict(backbone=TOWER, head=dict(in_channels=32)), test_dataloader=dict(batch_size=3, num_workers=0),
        test_cfg=dict(views=(0, 2))),
    'tinyvit/distill_in21k.py': dict(STUDENT, train_dataloader=LOADER, val_evaluator=dict(topk=1),
                                     test_evaluator=dict(topk=1)),  # of three classes
    'tinyvit/tiny_vit_21m_finetune_in1k.py': dict(STUDENT, train_dataloader=dict(VAL)),
}


def photos(name: str, split: str) -> list[bytes]:
    """JPEG files of a class."""
    if DATA:
        return [path.read_bytes() for path in sorted(Path(DATA, 'imagenette96', split, name).iterdir())[:PER_CLASS]]
    rng, files = np.random.default_rng(int(name[1:])), []
    for _ in range(PER_CLASS):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (96, 120, 3), np.uint8)).save(buffer, 'JPEG')
        files.append(buffer.getvalue())
    return files


def tar(file: io.BytesIO | Path, members: dict[str, bytes]) -> None:
    target = dict(name=file) if isinstance(file, Path) else dict(fileobj=file)
    with tarfile.open(**target, mode='w', format=tarfile.GNU_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def write_images(root: Path) -> None:
    """What image-net.org gives out, and a little of ImageNet-1K."""
    inner = {}
    for name in SYNSETS:
        files = {f'{name}_{number}.JPEG': data for number, data in enumerate(photos(name, 'train'), 1)}
        if name == SYNSETS[1]:
            files[f'{name}_90.JPEG'] = files[f'{name}_1.JPEG'][:len(files[f'{name}_1.JPEG']) // 2]
            files[f'{name}_91.JPEG'] = b'<html>404 Not Found</html>'
        buffer = io.BytesIO()
        tar(buffer, files)
        inner[f'winter21_whole/{name}.tar'] = buffer.getvalue()
        for split in ('train', 'val'):
            folder = root / 'data/imagenet' / split / name
            folder.mkdir(parents=True)
            for number, data in enumerate(photos(name, split)):
                (folder / f'{number}.JPEG').write_bytes(data)
    (root / 'data/imagenet21k').mkdir()
    tar(root / 'data/imagenet21k/winter21_whole.tar', inner)


def write_configs(root: Path) -> None:
    for name, changes in CHANGES.items():
        path = root / 'configs' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f'{key} = {value!r}' for key, value in dict(changes, _base_=str(ROOT / 'configs' / name)).items()]
        path.write_text('\n'.join(lines))


def published_teacher() -> bytes:
    """A small teacher under the names of the published one."""
    torch.manual_seed(0)
    head = dict(type='mmpretrain.LinearClsHead', num_classes=21841, in_channels=32)
    model = MODELS.build(dict(type='mmpretrain.ImageClassifier', head=head,
                              backbone=dict(type='mmtinyvit.CLIPVisionTower', **TOWER)))
    renamed = {}
    for name, value in model.state_dict().items():
        there, here = next((there, here) for there, here in CLIP_NAMES if _pattern(here).fullmatch(name))
        renamed[there.format(**_pattern(here).fullmatch(name).groupdict())] = value
    buffer = io.BytesIO()
    torch.save(renamed, buffer)
    return buffer.getvalue()


def _pattern(name: str) -> re.Pattern:
    return re.compile(re.sub(r'\\\{(\w+)\\\}', r'(?P<\1>\\w+)', re.escape(name)))


def readme_commands() -> list[list[str]]:
    """The words of each command of the section, without launchers."""
    section = re.search(r'## TinyViT on ImageNet-21K.*?```shell\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
    commands = []
    for line in section[1].replace('\\\n', ' ').splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ['python']:
            commands.append([words[1].removeprefix('tools/').removesuffix('.py'), *words[2:]])
        elif words:
            name = re.fullmatch(r'tools/dist_(\w+)\.sh', words[0])[1]
            words.remove('8')  # GPUs
            commands.append([name, *words[1:]])
    return commands


def test_every_command_of_the_readme(tmp_path, monkeypatch, run_tool):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path)
    write_configs(tmp_path)
    assert set(SYNSETS) < set(synsets('fall11'))
    commands, ended = readme_commands(), []
    assert [name for name, *_ in commands] == [
        'dataset_converters/index_images', 'download_checkpoints', 'model_converters/clip_vit_to_mmtinyvit',
        'save_logits', 'logit_store', 'logit_store', 'train', 'train', 'test', 'train']
    with file_server() as server:
        server.files['/clip_vit_large_patch14_22k.pth'] = published_teacher()
        for name, *args in commands:
            args = [word.replace('epoch_90', 'epoch_2') for word in args]
            if name == 'download_checkpoints':
                args += ['--mirror', server.url]
            if name == 'train' and not torch.cuda.is_available():
                args = [word for word in args if word != '--amp']
            if name == 'train' and not Path('work_dirs/distill_in21k').exists():  # what is resumed has stopped before
                args += ['--cfg-options', 'train_cfg.max_epochs=1']
            ended.append(run_tool(name, *args))
            assert ended[-1].status == 0, (name, args, ended[-1].err)
    listing, *_, resumed, tested, finetuned = ended

    # the index: all but the two broken files, in the order of the classes
    keys = [f'{name}/{name}_{number}.JPEG' for name in SYNSETS for number in range(1, 1 + PER_CLASS)]
    index = ImageIndex('data/imagenet21k/images.index')
    assert list(index.keys()) == keys and index.classes == SYNSETS and index.checked
    reasons = dict(line.split('\t') for line in Path('data/imagenet21k/rejected.txt').read_text().splitlines())
    assert list(reasons) == [f'{SYNSETS[1]}/{SYNSETS[1]}_{number}.JPEG' for number in (90, 91)]
    assert 'truncated' in reasons[f'{SYNSETS[1]}/{SYNSETS[1]}_90.JPEG'], reasons
    assert 'HTML' in reasons[f'{SYNSETS[1]}/{SYNSETS[1]}_91.JPEG'], reasons
    assert '2, see rejected.txt' in listing.out

    store = LogitStore('data/in21k_logits')
    assert store.complete_views() == [0, 1] and store.num_samples == len(keys)
    assert (store.num_classes, store.topk) == (21841, 100)
    assert Path('views.png').stat().st_size > 10_000

    assert 'resumed epoch: 1' in resumed.out and 'accuracy/top1' in tested.out
    assert 'accuracy/top1' in finetuned.out and Path('work_dirs/tiny_vit_21m_finetune_in1k/epoch_2.pth').exists()
