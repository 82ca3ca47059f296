"""Whether two versions of this library agree: stores, replayed views, trainings, checkpoints and the demo.

    PYTHONPATH=OLD python benchmarks/agreement.py write work_dirs/agreement --demo
    python benchmarks/agreement.py compare work_dirs/agreement --demo --out work_dirs/agreement.json

``write`` fills the folder with the version in the checkout ``OLD``; ``compare`` reads it with the version that Python
finds. A store agrees if all of its records are equal bit for bit and the same command writes the same shards; networks
and trainings agree if float32 differs by rounding alone: by less than 1e-5 of the largest output, or such that the new
version is no further from float64 than the old one. The script uses the command-line tools, types in configs and
the public classes of ``mmtinyvit.store``, so that it runs with either version. Exit status 1: something differs.
"""
import argparse
import copy
import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from agreement_cases import PHOTOS, SIDE, STORES, TRAININGS, VIEWS, dataset, networks, saving, teacher, training
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.utils.dl_utils.misc import is_norm
from PIL import Image

import mmtinyvit
from mmtinyvit.store import LogitStore

ROOT = Path(mmtinyvit.__file__).parents[1]
OUTPUTS, LOSSES, TOP1 = 1e-5, 1e-4, 1.  # largest differences: relative, relative, and points of the demo's accuracy


class Row(NamedTuple):
    """One comparison."""
    what: str
    subject: str
    agrees: bool
    detail: str


# ---------------------------------------------------------------- what both versions do
def run(script: str, *args: object, cwd: Path | None = None) -> str:
    """Run a tool of this version; returns what went wrong, or nothing."""
    ended = subprocess.run([sys.executable, str(ROOT / script), *map(str, args)], cwd=cwd, text=True,
                           capture_output=True, env=os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'))
    return '' if ended.returncode == 0 else f'{script}: {(ended.stderr or ended.stdout).strip().splitlines()[-1]}'


def save_store(folder: Path, name: str, store: Path, work_dir: Path) -> str:
    config = work_dir / f'{store.parent.name}-{name}.py'
    Config(saving(folder, work_dir / config.stem, name), format_python_code=False).dump(config)
    return run('tools/save_logits.py', config, folder / 'teacher.pth', '--out', store, '--views', f'0:{VIEWS}')


def train(folder: Path, name: str, work_dir: Path) -> str:
    config = work_dir / f'train-{name}.py'
    Config(training(folder, work_dir / f'train-{name}', name), format_python_code=False).dump(config)
    return run('tools/train.py', config)


def losses(work_dir: Path) -> list[float]:
    lines = next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()
    return [json.loads(line)['loss'] for line in lines]


def records(store: LogitStore) -> dict[str, np.ndarray]:
    """Every field of every view."""
    keys, found = [store.key(i) for i in range(len(store))], dict()
    for view in store.views:
        record = store.read(view, keys)
        for field in ('index', 'log_prob', 'tail_mass', 'partner_hash'):
            if getattr(record, field) is not None:
                found[f'view {view}, {field}'] = getattr(record, field)
    return found


def pixels(folder: Path) -> dict[str, str]:
    """The digest of each replayed view, as the stores' canaries are made."""
    images, found = DATASETS.build(dataset(folder)), {}
    for view in range(VIEWS):
        for index in range(len(images)):
            array = images.pipeline(images.get_data_info(index) | dict(view=view))['inputs'].contiguous().numpy()
            digest = hashlib.blake2b(f'{array.dtype.str} {array.shape}'.encode(), digest_size=16)
            digest.update(array)
            found[f'{view} {index}'] = digest.hexdigest()
    return found


@torch.no_grad()
def outputs(model: torch.nn.Module, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """For one image: logits, maps or losses, and again with BatchNorm folded where a network can."""
    image = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 3, SIDE, SIDE), np.float32)).to(dtype)
    for part in [model, *([model.teacher.load()] if hasattr(model, 'losses') else [])]:  # which TinyMIM does not own
        part.to(dtype)

    def answer() -> list[torch.Tensor]:
        if hasattr(model, 'losses'):
            return [value.reshape(1) for value in model(image, [], mode='loss').values()]
        found = model(image, mode='tensor') if hasattr(model, 'head') else model(image)
        return list(found) if isinstance(found, (tuple, list)) else [found]

    model.eval()
    plain, backbone = answer(), getattr(model, 'backbone', model)
    if not hasattr(backbone, 'fuse'):
        return plain
    backbone.fuse()
    return plain + answer()


def vary(model: torch.nn.Module) -> torch.nn.Module:
    """Random weights of which every one matters."""
    torch.manual_seed(0)
    model.init_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=.05)
        for module in model.modules():
            if is_norm(module) and getattr(module, 'running_var', None) is not None:
                module.running_mean.normal_(0, .2)
                module.running_var.uniform_(.5, 1.5)
    model.eval()
    return model


# ---------------------------------------------------------------- write
def write_inputs(folder: Path) -> None:
    """Photos, and the weights of two teachers."""
    rng = np.random.default_rng(0)
    for i in range(PHOTOS):
        path = folder / f'photos/class_{i % 3}/{i:03d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        low = rng.integers(0, 256, (rng.integers(2, 6), rng.integers(2, 6), 3)).astype(np.uint8)
        Image.fromarray(low).resize(rng.integers(36, 61, 2).tolist(), Image.Resampling.BICUBIC).save(path)
    sure = vary(MODELS.build(teacher()))
    sure.head.fc.weight.data.mul_(100)
    torch.save(dict(state_dict=sure.state_dict()), folder / 'teacher.pth')
    torch.save(vary(MODELS.build(networks(folder)['TinyMIM, ViT']['teacher']['backbone'])).state_dict(),
               folder / 'vit.pth')


def write(folder: Path, demo: bool) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name in ('work', 'records', 'networks', 'demo'):
        (folder / name).mkdir(parents=True)
    write_inputs(folder)
    with ThreadPoolExecutor(2) as pool:
        failed = pool.map(lambda name: save_store(folder, name, folder / 'stores' / name, folder / 'work'), STORES)
        failed = [*failed, *pool.map(lambda name: train(folder, name, folder / 'work'), TRAININGS)]
    if any(failed):
        sys.exit('\n'.join(filter(None, failed)))
    for name in STORES:
        np.savez(folder / f'records/{name}.npz', **records(LogitStore(folder / 'stores' / name)))
    (folder / 'pixels.json').write_text(json.dumps(pixels(folder), indent=1))
    for name, config in networks(folder).items():
        model = vary(MODELS.build(config))
        state = {key: value.clone() for key, value in model.state_dict().items()}
        torch.save(dict(state_dict=state, outputs=outputs(model)), folder / f'networks/{name}.pth')
    if demo and (error := run('tools/demo.py', cwd=folder / 'demo')):
        sys.exit(error)


# ---------------------------------------------------------------- compare
def compare_store(folder: Path, again: Path, name: str, seen: dict[str, str]) -> Iterator[Row]:
    path = folder / 'stores' / name
    wanted = dict(np.load(folder / f'records/{name}.npz'))
    store = LogitStore(path)
    found = records(store)
    same = found.keys() == wanted.keys() and all(
        found[key].dtype == wanted[key].dtype and np.array_equal(found[key], wanted[key]) for key in wanted)
    yield Row('records of the old store, bit for bit', name, same, f'{len(store) * len(store.views)} records')
    canaries = [(f'{view} {position}', digest) for view, shards in store.shards().items() for shard in shards
                for position, digest in store.canaries(view, shard).items()]
    yield Row('canaries of the old store, replayed', name, bool(canaries) and all(
        seen[key] == digest.hex() for key, digest in canaries), f'{len(canaries)} canaries')
    error = run('tools/check_logits.py', path, '--teacher', again / f'fresh-{name}.py', '--checkpoint',
                folder / 'teacher.pth')
    yield Row('check_logits of the old store and its teacher', name, not error, error)
    for what, target in (('shards written anew', 'fresh'), ('the old store, its last view saved again', 'continued')):
        if target == 'continued':
            shutil.copytree(path, again / target / name)
            shutil.rmtree(again / target / name / f'view-{VIEWS - 1:04d}')
        error = save_store(folder, name, again / target / name, again)
        files = [file.relative_to(path) for file in sorted(path.rglob('*')) if file.suffix in ('.logits', '.txt')]
        differ = [] if error else [str(file) for file in files if not (again / target / name / file).is_file() or (
            path / file).read_bytes() != (again / target / name / file).read_bytes()]
        same = not error and records(LogitStore(again / target / name))
        same = same and all(np.array_equal(same[key], wanted[key]) for key in wanted)
        yield Row(what, name, not error and not differ, error or f'{len(files) - len(differ)} of {len(files)} files '
                  f'equal; records {"equal" if same else "differ"}')


def compare_training(folder: Path, again: Path, name: str) -> Row:
    if error := train(folder, name, again):
        return Row('losses of a training', name, False, error)
    old, new = (np.array(losses(root / f'train-{name}')) for root in (folder / 'work', again))
    difference = np.abs(old / new - 1).max() if old.shape == new.shape else np.inf
    return Row('losses of a training', name, bool(difference <= LOSSES),
               f'{len(new)} steps, largest relative difference {difference:.1e}')


def compare_network(folder: Path, name: str, config: dict) -> Row:
    given = torch.load(folder / f'networks/{name}.pth', weights_only=True)
    try:
        model = MODELS.build(config)
        model.load_state_dict(given['state_dict'])
        found = outputs(copy.deepcopy(model))
        exact = outputs(model, torch.float64)
    except Exception as error:  # whatever the other version's checkpoint meets is a result
        return Row('outputs of a checkpoint', name, False, f'{type(error).__name__}: {error}'.splitlines()[0])
    def difference(values: list[torch.Tensor], others: list[torch.Tensor]) -> float:
        return max((abs(value - other).max() / other.abs().max()).item()
                   for value, other in zip(values, others, strict=True))

    rounding = difference(given['outputs'], exact), difference(found, exact)
    found_other = difference(found, given['outputs'])
    return Row('outputs of a checkpoint', name, found_other <= OUTPUTS or rounding[1] <= rounding[0] <= LOSSES,
               f'largest difference {found_other:.1e}; from float64 {rounding[0]:.1e} before, {rounding[1]:.1e} now')


def compare_demo(folder: Path, again: Path) -> Iterator[Row]:
    if error := run('tools/demo.py', cwd=again):
        yield Row('summary of the demo', 'run', False, error)
        return
    old, new = (json.loads((root / 'work_dirs/demo/summary.json').read_text()) for root in (folder / 'demo', again))
    for key, value in old.items():
        agrees = key in new and (key.startswith('seconds') or abs(new[key] - value) <= TOP1 * key.endswith('top1'))
        yield Row('summary of the demo', key, agrees, f'{value} before, {new.get(key)} now')


def compare(folder: Path, demo: bool) -> Iterator[Row]:
    again = folder / 'again'
    shutil.rmtree(again, ignore_errors=True)
    (again / 'continued').mkdir(parents=True)
    seen = pixels(folder)
    old = json.loads((folder / 'pixels.json').read_text())
    yield Row('pixels of replayed views', 'all', seen == old, f'{sum(old[k] == seen[k] for k in old)} of {len(old)}')
    for name in STORES:
        Config(saving(folder, again / f'fresh-{name}', name), format_python_code=False).dump(again / f'fresh-{name}.py')
    with ThreadPoolExecutor(2) as pool:
        for rows in pool.map(lambda name: list(compare_store(folder, again, name, seen)), STORES):
            yield from rows
    for name in TRAININGS:
        yield compare_training(folder, again, name)
    for name, config in networks(folder).items():
        yield compare_network(folder, name, config)
    if demo:
        yield from compare_demo(folder, again)


def main() -> None:
    parser = argparse.ArgumentParser(description='Whether two versions of this library agree.')
    parser.add_argument('what', choices=['write', 'compare'])
    parser.add_argument('folder', type=Path)
    parser.add_argument('--demo', action='store_true', help='run tools/demo.py too')
    parser.add_argument('--out', type=Path, help='JSON file for the comparisons')
    args = parser.parse_args()
    torch.set_num_threads(1)
    MMLogger.get_instance('mmengine', log_level='WARNING')
    sys.path.insert(0, str(ROOT))
    init_default_scope('mmpretrain')
    for project in ('mobilevit', 'mobile_former', 'topformer'):
        importlib.import_module(f'projects.{project}.{project}')
    folder = args.folder.resolve()
    if args.what == 'write':
        write(folder, args.demo)
        return
    rows = []
    print('| comparison | of | agrees | |\n|---|---|---|---|')
    for row in compare(folder, args.demo):
        rows.append(row._asdict())
        print(f'| {row.what} | {row.subject} | {"yes" if row.agrees else "NO"} | {row.detail} |', flush=True)
    if args.out:
        args.out.write_text(json.dumps(rows, indent=2) + '\n')
    sys.exit(0 if all(row['agrees'] for row in rows) else 1)


if __name__ == '__main__':
    main()
