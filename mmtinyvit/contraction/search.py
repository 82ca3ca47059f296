"""The search: from a seed to a target in steps, each with stricter limits than the one before."""
import hashlib
import json
import math
import random
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from mmtinyvit.apis.publish import pack_weights, write_file
from mmtinyvit.datasets.identity import plain_json
from mmtinyvit.errors import UserError
from mmtinyvit.models.checkpoints import read_state_dict
from mmtinyvit.models.weights import fill_module
from mmtinyvit.store.locks import wait_for_lock
from mmtinyvit.version import __version__

from .architecture import Architecture
from .halving import Contest
from .inheritance import inherit
from .journal import Journal
from .recipe import Keys, Recipe
from .selection import Candidate, spread
from .settings import Limits, Settings, Watcher
from .space import Space
from .throughput import Throughput
from .trials import Judgement, Trial, carry_on, newest_checkpoint

__all__ = ['Search']


class Search:
    """A contraction in a folder, in which all that is known stays.

    Args:
        recipe: Of the seed.
        settings: Of the search.
        out: Its folder. ``contraction.jsonl`` has every candidate and judgement, ``throughput.jsonl`` what was
            measured, and ``trials/`` a folder for each candidate.
        watcher: Is told how far it is.

    Raises:
        UserError: The target is no smaller than the seed, or smaller than anything in the space.
    """
    journal: Journal
    keys: Keys

    def __init__(self, recipe: Recipe, settings: Settings, out: Path, watcher: Watcher) -> None:
        out = out.resolve()  # trials may run elsewhere
        self.recipe, self.settings, self.out, self.watcher = recipe, settings, out, watcher
        have = recipe.parameters(recipe.seed)
        if settings.parameters >= have:
            raise UserError(f'The seed of {recipe.cfg.filename} has {have:,} parameters, and --params is '
                            f'{settings.parameters:,}: a contraction makes it smaller, so give less.')
        self.space = Space.around(recipe.seed, recipe.size, settings.factors, settings.values)
        smallest = self.space.smallest(recipe.seed)
        if smallest and recipe.parameters(smallest) > settings.parameters:
            raise UserError(f'The smallest architecture of the space, {smallest.name}, has '
                            f'{recipe.parameters(smallest):,} parameters, and --params is {settings.parameters:,}: '
                            'give more, or smaller values with --space.')

    def _begin(self) -> None:
        """Compare what is searched for with what an earlier run wrote, if that came to its first step; or write it."""
        wanted = json.loads(json.dumps(asdict(self.settings)))
        text = json.dumps(plain_json(self.recipe.cfg.to_dict()), sort_keys=True)
        wanted |= dict(recipe=hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), version=__version__)
        self.journal = Journal(self.out / 'contraction.jsonl')
        found, settings = self.journal.find(event='search'), self.settings
        if not self.journal.find(event='candidates'):
            if (self.out / 'trials').exists():
                raise UserError(f'{self.out} has trainings of a search whose contraction.jsonl is gone: choose another '
                                '--out, or remove the folder.')
            self.journal.clear()
            self.keys = self.recipe.hold_out(self.out / 'keys', settings.held_out, settings.share, settings.seed)
            self.journal.append(event='search', config=self.recipe.cfg.filename, base=self.recipe.seed.name, **wanted)
            return
        different = [name for name in wanted if name != 'version' and found.get(name) != wanted[name]]
        if different:
            name = different[0]
            raise UserError(f'{self.out} holds a search of {found["config"]} that differs in {", ".join(different)} '
                            f'({name} is {found.get(name)} there and {wanted[name]} here): choose another --out, or '
                            'remove the folder.')
        self.keys = self.recipe.hold_out(self.out / 'keys', settings.held_out, settings.share, settings.seed)

    # ---------------------------------------------------------------- limits
    @cached_property
    def throughput(self) -> Throughput:
        return Throughput(self.recipe, self.out / 'throughput.jsonl', self.settings.device, self.settings.batch_size)

    def limits(self, number: int) -> Limits:
        """Of step ``number``, counted from 1: between the seed and the target in equal ratios."""
        settings, part = self.settings, number / self.settings.steps
        have = self.recipe.parameters(self.recipe.seed)
        most = settings.parameters if number == settings.steps else have * (settings.parameters / have)**part
        images_per_s = 0.
        if settings.throughput is not None:
            seed, = self.throughput.of([self.recipe.seed])
            target = settings.throughput * seed if settings.relative else settings.throughput
            images_per_s = seed * (target / seed)**part
        return Limits((1 - settings.slack) * most, most, images_per_s)

    # ---------------------------------------------------------------- steps
    def run(self, executor: Executor, jobs: int) -> list[Candidate]:
        """All steps; returns what the last one keeps, the winner first.

        Waits for another process that searches in the same folder.

        Raises:
            UserError: The folder holds another search or cannot be written to, the store is too small, no candidate is
                within the limits of a step (the nearest is named), all of a step blew up, or a process was killed.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            lock = (self.out / '.lock').open('w')
        except OSError as error:
            raise UserError(f'The folder {self.out} cannot be written to ({error.strerror}): choose another --out.'
                            ) from error
        with lock:
            notice = threading.Timer(1., self.watcher.waits)
            notice.start()
            try:
                wait_for_lock(lock)
            finally:
                notice.cancel()
            self._begin()
            return self._run(executor, jobs)

    def _run(self, executor: Executor, jobs: int) -> list[Candidate]:
        kept = [Candidate(self.recipe.seed, '', self.recipe.parameters(self.recipe.seed),
                          self.recipe.macs(self.recipe.seed), *self.throughput.of([self.recipe.seed]))]
        for number in range(1, self.settings.steps + 1):
            limits = self.limits(number)
            self.watcher.step(number, limits)
            candidates = self._choose(number, limits, kept)
            self.watcher.chosen(number, candidates)
            kept = self._contest(number, candidates, executor, jobs)
            self.watcher.kept(number, kept)
        return kept

    def _choose(self, number: int, limits: Limits, bases: Sequence[Candidate]) -> list[Candidate]:
        """The candidates of a step, from the journal or anew."""
        found = self.journal.find(event='candidates', step=number)
        if found is None:
            chosen = spread(self._legal(number, limits, bases), self.settings.candidates)
            random.Random(f'{self.settings.seed} {number} order').shuffle(chosen)  # halving favours the first ones
            found = self.journal.append(event='candidates', step=number, limits=asdict(limits), candidates=[
                dict(name=each.name, base=each.base, parameters=each.parameters, macs=each.macs,
                     images_per_s=each.images_per_s) for each in chosen])
        return [Candidate(Architecture.parse(line['name']), line['base'], line['parameters'], line['macs'],
                          line['images_per_s']) for line in found['candidates']]

    def _legal(self, number: int, limits: Limits, bases: Sequence[Candidate]) -> list[Candidate]:
        """Neighbours of the bases within the limits, of as many as are measured."""
        settings, parents, nearest = self.settings, {}, None
        for base in bases:
            for each in self.space.neighbours(base.architecture, settings.moves, settings.reach, settings.seed):
                count = self.recipe.parameters(each)
                if limits.fewest <= count <= limits.most:
                    parents.setdefault(each, base.name)
                elif not parents:
                    apart = max(limits.fewest - count, count - limits.most)
                    nearest = min(nearest or (apart, count, each.name), (apart, count, each.name))
        if not parents:
            near = f'the nearest, {nearest[2]}, has {nearest[1]:,}' if nearest else 'there is none at all'
            raise UserError(f'Step {number} of {settings.steps} needs a candidate with {limits}, and {near}: give more '
                            '--steps, --moves or --reach, a wider --slack, or other values with --space.')
        self.watcher.legal(number, len(parents))
        order = sorted(parents, key=lambda each: each.name)
        random.Random(f'{settings.seed} {number}').shuffle(order)
        measured = self._measured(order[:settings.measured], parents)
        legal = [each for each in measured if each.images_per_s >= limits.images_per_s]
        if len(legal) < settings.candidates:  # those with the least to compute are likely to be fast
            rest = sorted(order[settings.measured:], key=lambda each: (self.recipe.macs(each), each.name))
            measured += self._measured(rest[:settings.measured], parents)
            legal = [each for each in measured if each.images_per_s >= limits.images_per_s]
        if not legal:
            best = max(measured, key=lambda each: each.images_per_s)
            raise UserError(f'Step {number} of {settings.steps} needs a candidate with {limits}, and the nearest of '
                            f'{len(measured)}, {best.name}, has {best.images_per_s:,.0f} images/s: give a lower '
                            '--throughput, a wider --slack, or more --measured.')
        return legal

    def _measured(self, architectures: Sequence[Architecture], parents: Mapping[Architecture, str]) -> list[Candidate]:
        found = self.throughput.of(architectures, self.watcher.measured)
        return [Candidate(each, parents[each], self.recipe.parameters(each), self.recipe.macs(each), images_per_s)
                for each, images_per_s in zip(architectures, found, strict=True)]

    # ---------------------------------------------------------------- training
    def folder(self, step: int, name: str) -> Path:
        """Of a candidate's training."""
        return self.out / 'trials' / f'step{step}' / name

    def _contest(self, step: int, candidates: Sequence[Candidate], executor: Executor, jobs: int) -> list[Candidate]:
        """Train the candidates of a step; returns the best. Their checkpoints stay, the others' are removed."""
        def train(executor: Executor, number: int, epoch: int) -> Future[Judgement]:
            known = self.journal.find(event='judged', step=step, name=candidates[number].name, epoch=epoch)
            if known:
                future: Future[Judgement] = Future()
                future.set_result(Judgement(known['value'], known['seconds']))
                return future
            return executor.submit(carry_on, self.prepare(step, candidates[number]), epoch)

        def judged(number: int, epoch: int, judgement: Judgement) -> None:
            name = candidates[number].name
            if not self.journal.find(event='judged', step=step, name=name, epoch=epoch):
                self.journal.append(event='judged', step=step, name=name, epoch=epoch, value=judgement.value,
                                    seconds=round(judgement.seconds, 2))
                self.watcher.judged(candidates[number], epoch, judgement)

        def decided(number: int, epoch: int, value: float, goes_on: bool) -> None:
            self.watcher.decided(candidates[number], epoch, value, goes_on)

        contest = Contest(self.settings.rungs, len(candidates), train, judged, decided)
        try:
            order = contest.run(executor, jobs)
        except BrokenExecutor as error:
            raise UserError('A process that trained a candidate was killed, perhaps because memory ran out: the same '
                            'command goes on where it was; if that happens again, give fewer --jobs.') from error
        if not math.isfinite(contest.values[order[0]][-1]):
            raise UserError(f'All {len(candidates)} candidates of step {step} blew up, their divergence is not finite: '
                            'give a lower rate with --cfg-options optim_wrapper.optimizer.lr=RATE, and another --out.')
        kept = [candidates[number] for number in order[:self.settings.keep]]
        if not self.journal.find(event='kept', step=step):
            for each in candidates:
                folder = self.folder(step, each.name)
                for weights in [*folder.glob('start.*'), *(() if each in kept else folder.glob('*.pth'))]:
                    weights.unlink()
            self.journal.append(event='kept', step=step, names=[each.name for each in kept])
        return kept

    def prepare(self, step: int, candidate: Candidate, folder: Path | None = None,
                inherits: bool | None = None) -> Trial:
        """Write the recipe of a candidate, and the weights that it starts from, unless they are there.

        Args:
            folder: Of its training; None for that of the search.
            inherits: Whether it starts from the weights of its base; None as the search does.
        """
        folder, settings = folder or self.folder(step, candidate.name), self.settings
        inherits = settings.inherit if inherits is None else inherits
        if not (folder / 'config.py').exists():
            cfg = self.recipe.candidate(candidate.architecture, self.keys, settings.epochs,
                                        settings.judge == 'accuracy', settings.seed)
            cfg.work_dir = str(folder)
            write_file(folder / 'config.py', cfg.pretty_text.encode())
        start = self._inherited(step, candidate, folder) if inherits else None
        return Trial(str(folder), settings.judge, str(self.keys.judging), self.keys.views, start, settings.amp)

    def _inherited(self, step: int, candidate: Candidate, folder: Path) -> str | None:
        """The file of weights that a candidate starts from; None if it starts from random ones."""
        source = self.settings.checkpoint
        if step > 1:
            folder_of_base = self.folder(step - 1, candidate.base)
            source = newest_checkpoint(folder_of_base)
            if source is None:
                raise UserError(f'{folder_of_base} has no checkpoint any more, from which {candidate.name} is to '
                                'inherit: choose another --out.')
        if source is None:
            return None
        start = folder / 'start.safetensors'
        if not start.exists():
            base = Architecture.parse(candidate.base)
            parent, model = self.recipe.build(base), self.recipe.draw(candidate.architecture, self.settings.seed)
            fill_module(parent, read_state_dict(str(source)), str(source))
            inherit(model, candidate.architecture, parent.state_dict(), base)
            write_file(start, pack_weights(model.state_dict(), start.suffix))
        return str(start)
