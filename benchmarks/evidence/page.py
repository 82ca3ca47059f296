"""docs/en/evidence.md and its figures, from the claims and their results."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .claim import Claim, Row, load_result

__all__ = ['write_page']

HEAD = """# Evidence

Does it pay? Each claim of the papers is measured by one command, on real photos: 7,500 photos of ten ImageNet classes
to learn from and 2,500 others to judge by. `python benchmarks/claims.py --list` names the claims, and `--page` writes
this page from the results. A command that was interrupted goes on where it was. [Progressive
contraction](contraction.md#does-it-pay) is measured by a command of its own.

In short, for small students on these photos:

- **A store pays where labels are few.** With 1 % of the labels, a student from a store reaches 65.8 %, and 33.6 % from
  scratch; with 10 %, 69.8 % and 58.4 %. For five classes that are not in the store it does not: with 375 labels of
  theirs, 67.7 % after the store of five other classes, 68.3 % after those classes' labels, and 71.1 % from scratch.
- **It does not replace labels that are all right.** From a store a student reaches 69.0 %, from all labels 70.4 % on
  the same views, and 74.3 % on fresh ones. Labels lead at every size of the data, with all but one of the networks, and
  after 100 epochs as after 10: 78.2 % against 71.7 %, and 78.0 % against 69.8 % for a larger student. With the last
  fifth of 100 epochs from labels, a store is as good as they are, within chance: 77.2 %.
- **It saves the teacher's time, and gives the same student.** From 8 stored views a training takes a twelfth of the
  time that it takes with the teacher beside the student, for 61.9 % and 62.3 %.
- **A small store is enough for a short training.** In 20 epochs, 8 views and 10 of 1,000 classes lose nothing that can
  be seen. For 100 epochs 8 views are few: a student of 0.86 M parameters is no better than after 40.
- **It finds wrong labels.** With 40 % of the labels wrong, a student reaches 56.2 %, and 67.7 % with the labels that
  `clean` keeps.
- **Two teachers are worth more than one**: 67.5 % against 65.4 % and 64.9 %.
- **A student learns how the teacher's classes relate**, and one from labels does not.
- **It transfers better to other classes of photos, which the teacher knows, and worse to handwritten digits.**

"""
RULES = """
## How it is measured

**What is compared**

- Unless a claim says otherwise, all students of a comparison see as many images, in all of their training together.
  Students from labels get fresh views in each epoch. Students from a store read its views in turn, and have its head of
  1,000 classes. With the store's views and head, labels reach less ([table](#no-labels-are-needed)): fresh views are
  the harder comparison for a store.
- Each way to train gets the best of two to four learning rates, chosen with the first seed on a fifth of the
  validation photos (500). The accuracies are over the other 2,000, among the ten classes. Sweeps take the best rate of
  their reference. Students of other sizes choose theirs in short trainings of 10 epochs.
- Headlines have three seeds; the tables show mean and standard deviation. Of a share of the labels each seed draws its
  own. One accuracy over 2,000 photos is known to about 1 point.
- *Holds*: each difference that the claim is about is larger than chance, or reaches the aim that the claim names.
  Chance is the larger deviation of the two rows, or 1 point where one of them has a single seed. A claim that nothing
  is lost holds if no difference is larger than chance. *Does not hold*: one is, in the other direction. *Not visible at
  this size*: neither.
- Cost is the processor time of all trainings and stores that the claim reads. Claims share some of them, which are made
  once, and count once in the total. A view that several trainings read is made once too, except where times are
  compared.

**What the teachers know**

- They learned ImageNet from labels, and 95 % of these photos are among ImageNet's training images: 7,134 of the 7,500
  and 2,366 of the 2,500, by their names. *No labels* means that the student reads none.
- This is a hard place for a store all the same. All labels of Imagenette are right, and its ten classes are far apart.
  Of the stored views of 64 pixels the teacher names half rightly among its 1,000 classes
  ([table](#a-better-teacher-makes-a-better-student)). The paper's teachers reach 84 to 86 % on ImageNet-1K, and its
  labels of 21,841 classes overlap and are often wrong.

**To repeat it**

- `MMTINYVIT_DATA` is a folder with `imagenette96/{train,val}/<synset>/*.JPEG`: of
  [Imagenette](https://github.com/fastai/imagenette) the first 750 photos of each class to learn from and the first 250
  to judge by, resized to 96 pixels. The main teacher is EfficientNet-Lite2 (77.5 % on ImageNet-1K, Apache-2.0), timm's
  `tf_efficientnet_lite2` in `teacher_efficientnet_lite2/efficientnet_lite2_timm.pth`; the other is MobileNetV2, timm's
  `mobilenetv2_100` in `teacher_mobilenetv2/tf2_mobilenet_v2_1_0_224_ptq_timm.pth`.
- Views have 64 pixels: crops of 35 to 100 % of the photo, flips, colour jitter of 0.4. The teacher sees them enlarged
  to 160 pixels; its ten most probable classes are stored (`codec='compact'`).
- Students are TinyViT of 0.26 M parameters with AdamW, weight decay 0.05, batches of 64, warm-up and cosine, at 1e-3 or
  3e-3 (`benchmarks/evidence/recipes.py`, `networks.py`). The JSON files in `benchmarks/evidence/results` name every
  training with its learning rate and seed.
"""
SPAN = 10  # points that a figure's axis of accuracies has at least, so that small differences look small


def write_page(claims: Sequence[Claim], results: Path, docs: Path) -> None:
    """Write ``evidence.md`` and the figures ``images/claim_NAME.svg`` into ``docs``."""
    found = {claim.name: load_result(results, claim.name) for claim in claims}
    measured = [(claim, found[claim.name]) for claim in claims if found[claim.name]]
    lines = ['| claim | published | measured here | verdict |', '|---|---|---|---|']
    for claim in claims:
        result = found[claim.name]
        title = f'[{claim.title}](#{anchor(claim)})' if result else claim.title
        effect, verdict = (result['effect'], result['verdict']) if result else ('', 'not measured yet')
        lines.append(f'| {title} | {claim.published} | {effect} | {verdict} |')
    sections = [section(claim, result, docs) for claim, result in measured]
    (docs / 'evidence.md').write_text(HEAD + '\n'.join(lines) + f'\n\n{cost(found)}' + RULES + ''.join(sections))


def cost(found: Mapping[str, dict[str, Any] | None]) -> str:
    """What all claims took together, as a line."""
    results = [result for result in found.values() if result]
    if not results:
        return 'Nothing has been measured yet.\n'
    several = [result for result in results if any(len(row.top1) > 1 for row in result['rows'])]
    missing = [name for name, result in found.items() if not result]
    left = f' Not measured yet: {", ".join(missing)}.' if missing else ''
    return (f'The measured claims took {hours(results):.1f} core hours in all, about {hours(results) / 2:.1f} hours on '
            f'two cores. The headlines, which have several seeds, take {hours(several) / 2:.1f} of these.{left}\n')


def hours(results: Sequence[Mapping[str, Any]]) -> float:
    """Hours of a core; a step that several claims share counts once."""
    seconds: dict[str, float] = {}
    for result in results:
        seconds |= {key: step['seconds'] for key, step in result['steps'].items()}
    return sum(seconds.values()) / 3600


def anchor(claim: Claim) -> str:
    return claim.title.lower().replace(' ', '-')


def section(claim: Claim, result: dict[str, Any], docs: Path) -> str:
    """The part of the page about one claim."""
    rows, facts = result['rows'], list(dict.fromkeys(name for row in result['rows'] for name, _ in row.facts))
    unfinished = '' if result['complete'] else ' It is not finished: these are the rows that are there.'
    text = [f'\n## {claim.title}\n', f'{claim.question} {claim.setting}\n', f'Published: {claim.published}\n',
            f'```shell\nMMTINYVIT_DATA=... python benchmarks/claims.py {claim.name}\n```\n',
            f'{len(result["steps"])} stores and trainings, {hours([result]):.1f} core hours '
            f'({result["machine"]}).{unfinished}\n']
    for group in dict.fromkeys(row.group for row in rows):
        text.append(table([row for row in rows if row.group == group], group, facts))
    if claim.draw and result['complete']:
        text.append(f'![{claim.title}]({draw(claim, rows, docs)})\n')
    return '\n'.join(text)


def table(rows: Sequence[Row], group: str, facts: Sequence[str]) -> str:
    """A Markdown table of the rows of one group."""
    facts = [name for name in facts if any(name in dict(row.facts) for row in rows)]
    lines = [f'| {group or "student"} | {" | ".join([*facts, "images seen", rows[0].metric, "seeds"])} |',
             '|---' + '|---:' * (len(facts) + 3) + '|']
    for row in rows:
        own = dict(row.facts)
        spread = '' if row.spread is None else f' ± {row.spread:.1f}'
        shown = [cell(own[name]) if name in own else '' for name in facts]
        lines.append(f'| {" | ".join([row.name, *shown, f"{row.images:,}", f"{row.mean:.1f}{spread}"])} | '
                     f'{len(row.top1)} |')
    return '\n'.join(lines) + '\n'


def cell(value: Any) -> str:
    return f'{value:,}' if isinstance(value, int) else str(value)


def draw(claim: Claim, rows: Sequence[Row], docs: Path) -> str:
    """Draw the figure; returns its path from the page. The same rows give the same bytes."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    with matplotlib.rc_context({'svg.hashsalt': claim.name, 'svg.fonttype': 'none', 'font.size': 9}):
        figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout='constrained')
        claim.draw(rows, axes)
        axes.grid(alpha=.3)
        low, high = axes.get_ylim()
        if '%' in axes.get_ylabel() and high - low < SPAN:
            axes.set_ylim((low + high - SPAN) / 2, (low + high + SPAN) / 2)
        if len(axes.get_legend_handles_labels()[0]) > 1:
            figure.legend(loc='outside lower center', ncols=3, fontsize=8)
        path = docs / 'images' / f'claim_{claim.name}.svg'
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, metadata={'Date': None})
        pyplot.close(figure)
    return f'images/{path.name}'
