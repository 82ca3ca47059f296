"""Does progressive contraction find a better student than hand, ruler and dice? On real photos, from a store.

    MMTINYVIT_DATA=... python benchmarks/contraction.py --jobs 2      # hours on 2 cores
    python benchmarks/contraction.py --quick                          # minutes: that it runs, not how well

A seed of 4 M parameters is contracted in three steps, on Imagenette at 64 pixels, from the store of the
EfficientNet-Lite2 teacher. Its limits are what uniform scaling of the seed to about 1 M has: at most its parameters, at
least its throughput. Then, with equal training, one learning rate for all, and three seeds each: the winner, the
hand-made student of configs/imagenette/student.py, uniform scaling, and the median of legal candidates drawn at random,
which one seed finds. Their throughput is measured in turns. Last, for the candidates of the last step: does inheriting
weights rank them as training from scratch does, and how well do short trainings predict long ones?

Everything is kept in --work and --lab: interrupted, or stopped by --budget, the same command goes on. It prints
Markdown tables and writes summary.json into --work; that of the documentation is
evidence/results/contraction.json. Without MMTINYVIT_DATA, --quick takes synthetic photos and a
teacher of random weights.
"""
import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from contraction_tables import correlations, noise, show, verdict
from evidence.kept_views import keep_views
from evidence.lab import Lab
from evidence.networks import TINY_VIT
from evidence.photos import PHOTOS, data_folder, write_photos
from evidence.recipes import LITE2, Training, save_store, teacher_model
from evidence.step import Step
from mmengine.config import Config

from mmtinyvit.apis.publish import write_file
from mmtinyvit.apis.timing import machine
from mmtinyvit.cli.command import run_command
from mmtinyvit.config import read_config
from mmtinyvit.contraction.architecture import Architecture
from mmtinyvit.contraction.executors import Here, Processes
from mmtinyvit.contraction.journal import Journal
from mmtinyvit.contraction.progress import ContractionProgress
from mmtinyvit.contraction.recipe import Recipe
from mmtinyvit.contraction.report import read_rows, write_picture, write_table
from mmtinyvit.contraction.search import Search
from mmtinyvit.contraction.selection import Candidate
from mmtinyvit.contraction.settings import Settings
from mmtinyvit.contraction.throughput import Throughput
from mmtinyvit.contraction.trials import carry_on
from mmtinyvit.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
HEAD = 16  # channels: widths move in such steps
SEED = Architecture((64, 128, 192, 256), (2, 2, 4, 2), (4, 4, 2), 4., 4., (HEAD, ) * 3)
RATE = 1e-3  # of every training, short and long; of 1e-3 and 3e-3, that which suits students of about 1 M
DRAWS = 100_000  # at most, to find legal ones


@dataclass(frozen=True)
class Size:
    """How much of everything."""
    photos: int | None = None  # of the store; None takes all
    views: int = 8
    target: int = 1_000_000  # parameters, about
    steps: int = 3
    candidates: int = 12
    short: int = 9  # epochs
    long: int = 20
    eta: int = 3
    seeds: int = 3
    drawn: int = 7  # at random
    held_out: float = 0.05
    measured: int = 48
    rounds: int = 301  # in which the throughput of the arms is compared
    times: int = 5  # that this is done: the machine may run otherwise a minute later
    test_every: int = 1

    @staticmethod
    def of(args: argparse.Namespace) -> 'Size':
        if args.quick:
            return Size(150, 2, 1_000_000, 3, 3, 2, 2, 2, 1, 3, 0.2, 4, 7, 2, 50)
        return Size(long=args.epochs, short=args.short)


class Bench:
    """The measurement in a folder, step by step.

    Args:
        args: Of the command.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.size, self.jobs = Size.of(args), args.jobs
        torch.set_num_threads(1)  # as the lab does: every run measures and trains alike, whatever --jobs is
        self.work = args.work / ('quick' if args.quick else 'long')
        real = bool(os.environ.get('MMTINYVIT_DATA')) or not args.quick
        data = data_folder() if real else write_photos(self.work / 'photos')
        self.lab = Lab(self.work / 'steps' if args.quick else args.lab, data, args.jobs, quick=args.quick,
                       end=time.monotonic() + 60 * args.budget)
        teacher = teacher_model(LITE2 if real else dict(model_name=LITE2['model_name']))
        self.store = save_store('store of Lite2', [teacher], self.size.views, photos=self.size.photos)
        self.lab.results([self.store])
        self.recipe = Recipe(read_config(self._write_recipe()))
        self.device = args.device

    def training(self, architecture: Architecture, epochs: int, seed: int = 0) -> Step:
        """The training of a student from the store, on all photos."""
        TINY_VIT[architecture.name] = {name: list(value) if isinstance(value, tuple) else value
                                       for name, value in architecture.arch.items()}
        subset = () if self.size.photos is None else (('indices', list(range(0, PHOTOS,
                                                                             PHOTOS // self.size.photos))), )
        training = Training(epochs, RATE, seed, architecture.name, self.store, views=self.size.views, subset=subset,
                            tests=1, test_every=self.size.test_every)
        return training.step(architecture.name)

    def _write_recipe(self) -> Path:
        """The seed's short training as an ordinary recipe, whose views are made once, as those of the lab."""
        step = self.training(SEED, self.size.short)
        folder, path = step.prepare(self.lab.root, self.lab.data), self.work / 'recipe.py'
        cfg = json.loads((folder / 'config.json').read_text())
        cfg |= dict(default_scope='mmpretrain', launcher='none', env_cfg=dict(mp_cfg=dict(opencv_num_threads=0)),
                    custom_imports=dict(imports=['evidence.kept_views']))
        loader = cfg['train_dataloader']
        loader['dataset'] = keep_views(loader['dataset'], self.lab.root / 'views')
        write_file(path, Config(cfg, format_python_code=False).pretty_text.encode())
        return path

    # ---------------------------------------------------------------- the search
    def contract(self) -> tuple[Search, list[Candidate]]:
        """The search, and what its last step keeps. Its limits are what uniform scaling has."""
        size, out, uniform = self.size, self.work / 'search', self.uniform()
        limit, = Throughput(self.recipe, out / 'throughput.jsonl', self.device, Settings.batch_size).of([uniform])
        settings = Settings(
            self.recipe.parameters(uniform), throughput=limit, relative=False, steps=size.steps,
            candidates=size.candidates, epochs=size.short, eta=size.eta, held_out=size.held_out,
            measured=size.measured, device=self.device)
        with Watch(settings, self) as watch, self.executor() as executor:
            search = Search(self.recipe, settings, out, watch)
            kept = search.run(executor, self.jobs)
        rows = read_rows(out)
        write_table(rows, settings.judge, out / 'contraction.md')
        write_picture(rows, settings.judge, out / 'contraction.png')
        return search, kept

    def executor(self) -> Executor:
        return Processes(self.jobs) if self.jobs > 1 else Here()

    def uniform(self) -> Architecture:
        """The seed with all widths scaled alike, as near to the target as heads allow."""
        scaled = [SEED.moved({f'D{i + 1}': max(HEAD, round(share * width / HEAD) * HEAD)
                              for i, width in enumerate(SEED.dims)}) for share in np.linspace(0, 1, 401)]
        return min(scaled, key=lambda each: abs(self.recipe.parameters(each) - self.size.target))

    def drawn(self, search: Search) -> list[Architecture]:
        """Legal architectures, drawn evenly from the space and not from neighbours."""
        rng, limits, found = random.Random(0), search.limits(self.size.steps), []
        values = {factor: each for factor, each in search.space.values.items() if each}
        for _ in range(DRAWS):
            each = SEED.moved({factor: rng.choice(of_factor) for factor, of_factor in values.items()})
            fits = each and list(each.dims) == sorted(each.dims) and (
                limits.fewest <= self.recipe.parameters(each) <= limits.most)
            if fits and search.throughput.of([each])[0] >= limits.images_per_s:
                found.append(each)
            if len(found) == self.size.drawn:
                return found
        raise UserError(f'Of {DRAWS:,} random architectures {len(found)} are legal: widen the limits.')

    # ---------------------------------------------------------------- what came of it
    def arms(self, search: Search, winner: Architecture) -> list[dict]:
        """The comparison: a row for each way to come to a student."""
        drawn = self.drawn(search)
        first = self.lab.results([self.training(each, self.size.long) for each in drawn])
        order = sorted(range(len(drawn)), key=lambda number: first[number]['top1'])
        hand = Architecture((32, 64, 96, 160), (1, 1, 3, 1), (4, 4, 2), 4., 4., (32, ) * 3)  # windows of 64 pixels
        arms = {'contraction': winner, 'hand-made (configs/imagenette/student.py)': hand,
                'uniform scaling of the seed': self.uniform(),
                f'random, median of {len(drawn)}': drawn[order[len(drawn) // 2]]}
        seeds = range(self.size.seeds)
        results = iter(self.lab.results([self.training(each, self.size.long, seed)
                                        for each in arms.values() for seed in seeds]))
        rows = []
        for (name, each), images_per_s in zip(arms.items(), self.speeds(search, list(arms.values())), strict=True):
            top1 = [next(results)['top1'] for _ in seeds]
            rows.append(dict(
                arm=name, architecture=each.name, parameters=self.recipe.parameters(each),
                macs=self.recipe.macs(each), images_per_s=images_per_s, top1=top1, mean=statistics.fmean(top1),
                spread=statistics.stdev(top1) if len(top1) > 1 else 0.))
        rows[-1]['drawn'] = {each.name: result['top1'] for each, result in zip(drawn, first, strict=True)}
        return rows

    def speeds(self, search: Search, architectures: Sequence[Architecture]) -> list[list[float]]:
        """Images per second of each, all in turns, several times over."""
        journal, names = Journal(self.work / 'speeds.jsonl'), [each.name for each in architectures]
        wanted = dict(names=names, rounds=self.size.rounds, setting=search.throughput.setting)
        distinct, found = list(dict.fromkeys(architectures)), []
        for number in range(self.size.times):
            known = journal.find(**wanted, number=number)
            if known is None:
                times = dict(zip(distinct, search.throughput.compare(distinct, self.size.rounds), strict=True))
                first = Settings.batch_size / times[distinct[0]]['median_s']
                known = journal.append(**wanted, number=number, images_per_s=[
                    first / times[each]['ratio'] for each in architectures])
            found.append(known['images_per_s'])
        return [list(each) for each in zip(*found, strict=True)]

    def agreement(self, search: Search) -> list[dict]:
        """Of the last step's candidates: judgements from scratch and inherited at each rung, and the long accuracy."""
        step, journal = self.size.steps, Journal(self.work / 'agreement.jsonl')
        candidates = [Candidate(Architecture.parse(row.name), row.base, row.parameters, row.macs, row.images_per_s)
                      for row in read_rows(search.out) if row.step == step]
        with self.executor() as executor:
            for start in ('scratch', 'inherited'):
                for epoch in search.settings.rungs.ends:
                    for each in candidates if start == 'scratch' else ():  # the search has trained some of them
                        known = search.journal.find(event='judged', step=step, name=each.name, epoch=epoch)
                        if known and not journal.find(start=start, name=each.name, epoch=epoch):
                            journal.append(start=start, name=each.name, epoch=epoch, value=known['value'])
                    wanted = [each for each in candidates
                              if not journal.find(start=start, name=each.name, epoch=epoch)]
                    for first in range(0, len(wanted), self.jobs):
                        self.lab.stop_in_time()
                        group = wanted[first:first + self.jobs]
                        trials = [search.prepare(step, each, self.work / 'agreement' / start / each.name,
                                                 start == 'inherited') for each in group]
                        futures = [executor.submit(carry_on, trial, epoch) for trial in trials]
                        for each, future in zip(group, futures, strict=True):
                            journal.append(start=start, name=each.name, epoch=epoch, value=future.result().value)
        long = self.lab.results([self.training(each.architecture, self.size.long) for each in candidates])
        rows = []
        for each, result in zip(candidates, long, strict=True):
            values = {f'{line["start"]} {line["epoch"]}': line['value'] for line in journal.lines
                      if line['name'] == each.name}
            rows.append(dict(architecture=each.name, top1=result['top1'], **values))
        return rows


class Watch(ContractionProgress):
    """Shows how far the search is, and stops it when the budget is used up."""

    def __init__(self, settings: Settings, bench: Bench) -> None:
        super().__init__(settings)
        self.bench = bench

    def judged(self, *args) -> None:
        super().judged(*args)
        self.bench.lab.stop_in_time()


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='150 photos, three candidates a step, two epochs')
    parser.add_argument('--epochs', type=int, default=20, help='of the trainings that are compared (default: 20)')
    parser.add_argument('--short', type=int, default=9, help='epochs of a whole short training (default: 9)')
    parser.add_argument('--jobs', type=int, default=1, help='trainings side by side (default: 1)')
    parser.add_argument('--device', default='cpu', help='where throughput is measured (default: cpu)')
    parser.add_argument('--budget', type=float, default=float('inf'), metavar='MINUTES',
                        help='start no training after so long (default: no end)')
    parser.add_argument('--work', type=Path, default=ROOT / 'work_dirs/contraction', help='folder of everything else')
    parser.add_argument('--lab', type=Path, default=ROOT / 'work_dirs/claims/steps', metavar='FOLDER',
                        help='of the store and the long trainings, shared with benchmarks/claims.py, whose store it is')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    bench = Bench(args)
    try:
        search, kept = bench.contract()
        arms, agreement = bench.arms(search, kept[0].architecture), bench.agreement(search)
    finally:
        bench.lab.stop()
    rungs = search.settings.rungs.ends
    show(arms, agreement, rungs, bench.size.long, RATE)
    if args.quick:
        print('A miniature: it runs, and its numbers say nothing.')
    write_file(bench.work / 'summary.json', json.dumps(dict(
        machine=machine(), verdict=verdict(arms), arms=arms, agreement=agreement,
        noise=noise(arms, agreement), spearman=dict(correlations(agreement, rungs))), indent=1).encode())


if __name__ == '__main__':
    run_command(main, 'Interrupted: the same command goes on where it was.')
