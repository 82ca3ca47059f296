"""Look into a store of teacher logits, and look after it.

    mmtinyvit store plan configs/teachers/clip_vit_l14_in21k.py CHECKPOINT
    mmtinyvit store info data/in21k_logits
    mmtinyvit store verify data/in21k_logits
    mmtinyvit store verify data/in21k_logits --teacher configs/teachers/clip_vit_l14_in21k.py --checkpoint T
    mmtinyvit store show data/in21k_logits n01440764/n01440764_18.JPEG --classes classes.txt
    mmtinyvit store stats data/in21k_logits --config configs/tinyvit/distill_in21k.py --out stats.png
    mmtinyvit store clean data/in21k_logits --config configs/tinyvit/distill_in21k.py --out kept.txt
    mmtinyvit store report data/in21k_logits --config configs/tinyvit/distill_in21k.py --out report.html
    mmtinyvit store correlation data/in21k_logits STUDENT.pth --config configs/tinyvit/distill_in21k.py
    mmtinyvit store gallery --config configs/tinyvit/distill_in21k.py
    mmtinyvit store gallery data/in21k_logits --config configs/tinyvit/distill_in21k.py --hardest
    mmtinyvit store repair data/in21k_logits --yes
    mmtinyvit store copy data/in21k_logits s3://bucket/in21k_logits --views 0:10
    mmtinyvit store merge views_0_to_44 views_45_to_89 --out data/in21k_logits
    mmtinyvit store reshard data/in21k_logits --samples-per-shard 16384 --out data/in21k_logits_small
    mmtinyvit store import-cream teacher_logits --keys samples.txt --num-classes 21841 --out data/imported

With ``--json``, each subcommand prints one JSON object for machines.
"""
import argparse
from collections.abc import Callable, Sequence

from mmtinyvit.store import codec_names
from mmtinyvit.store.admin.import_cream import KEY_FORMS

from . import store_commands as commands
from .command import add_config_options, parse_range, positive
from .store_analysis import add_analysis

__all__ = ['ON_INTERRUPT', 'build_parser', 'main']

ON_INTERRUPT = 'Interrupted: run the same command again. Finished shards are kept.'


def add_label_index(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--label-index', nargs='+', metavar='FOLDER=CLASS',
                        help="the teacher's class, by name or synset, of each folder that is called otherwise: "
                             "fish=tench; or the number of the teacher's class of each label, in order; or a file with "
                             'one of these a line')


def add_class_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--classes', metavar='NAMES', help="names of the teacher's classes: a file with one per line, "
                        'or a label layout such as in1k (default: those of the images, where they are the same)')


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Look into a store of teacher logits, and look after it.')
    subparsers = parser.add_subparsers(required=True, metavar='COMMAND')

    def command(function: Callable[[argparse.Namespace], None], summary: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(function.__name__.replace('_', '-'), help=summary, description=summary)
        sub.add_argument('--json', action='store_true', help='print one JSON object')
        sub.set_defaults(run=function)
        return sub

    sub = command(commands.info, 'What a store is a store of, and how much of it is there.')
    sub.add_argument('store', help='folder or URL of the store')

    sub = command(commands.verify, 'Check every byte, and with --teacher some records; status 1 if anything is wrong.')
    sub.add_argument('store', help='folder or URL of the store')
    sub.add_argument('--decode', action='store_true', help='decode every record too')
    sub.add_argument('--teacher', metavar='CONFIG', dest='config', help='the config that saved it: ask the teacher too')
    sub.add_argument('--checkpoint', help="the teacher's checkpoint, file or URL")
    sub.add_argument('--records', type=positive, default=64, help='how many records to ask about (default: 64)')
    sub.add_argument('--tolerance', type=float, default=1e-3,
                     help='mean KL divergence in nats beyond which the check fails (default: 0.001)')
    add_config_options(sub)

    sub = command(commands.show, 'What the teacher said about one sample.')
    sub.add_argument('store', help='folder or URL of the store')
    sub.add_argument('key', help='the key of the sample: its path relative to the data root')
    sub.add_argument('--views', type=parse_range, metavar='A:B', help='views A to B - 1 (default: all)')
    sub.add_argument('--top', type=positive, default=5, help='classes to list (default: 5)')
    add_class_names(sub)

    sub = command(commands.repair, 'Remove damaged shards and what killed processes left; without --yes, only say so.')
    sub.add_argument('store', help='folder of the store')
    sub.add_argument('--yes', action='store_true', help='do it')

    sub = command(commands.copy, 'Copy a store, or some views, from a folder or URL to another; check every byte.')
    sub.add_argument('source', help='folder or URL of the store; it is only read')
    sub.add_argument('destination', help='folder or URL of the copy; what is there already stays')
    sub.add_argument('--views', type=parse_range, metavar='A:B', help='views A to B - 1 (default: all)')

    sub = command(commands.merge, 'Put stores together: views of the same samples, or samples of the same views.')
    sub.add_argument('stores', nargs='+', help='two or more stores; they are only read')
    sub.add_argument('--out', required=True, help='folder of the new store')

    sub = command(commands.reshard, 'Write the records of a store into shards of another size.')
    sub.add_argument('store', help='folder of the store; it is only read')
    sub.add_argument('--out', required=True, help='folder of the new store')
    sub.add_argument('--samples-per-shard', type=positive, required=True, metavar='N', help='samples per new shard')
    sub.add_argument('--views', type=parse_range, metavar='A:B', help='views A to B - 1 (default: all)')

    sub = command(commands.import_cream, "Import the original TinyViT's logits as views that cannot be replayed.")
    sub.add_argument('folder', help="the original's DISTILL.TEACHER_LOGITS_PATH")
    sub.add_argument('--keys', required=True, metavar='FILE', help="sample keys in the dataset's order, one per line")
    sub.add_argument('--num-classes', type=positive, required=True, help="the teacher's classes: 21841, or 1000")
    sub.add_argument('--out', required=True, help='folder of the new store')
    sub.add_argument('--key-form', choices=KEY_FORMS, default='stem',
                     help='how the original named samples: by file name without suffix (ImageNet-22k, the default), by '
                          'place in the list (ImageNet-1k), or by path')
    sub.add_argument('--epochs', type=parse_range, metavar='A:B', help='epochs A to B - 1 (default: all)')
    sub.add_argument('--topk', type=positive, help='K, if the folder has several')
    sub.add_argument('--codec', choices=codec_names(), default='exact', help='record codec (default: exact)')
    sub.add_argument('--teacher', default='unknown', help='name of the teacher, to be shown')

    sub = command(commands.stats, 'Compare the teacher with the labels: accuracy, confusions, doubtful labels.')
    sub.add_argument('store', help='folder or URL of the store')
    sub.add_argument('--config', required=True, help='config of the teacher or of a student: it has the dataset')
    sub.add_argument('--views', type=parse_range, metavar='A:B', help='views A to B - 1 (default: all complete ones)')
    sub.add_argument('--samples', type=positive, metavar='N', help='only N samples, spread evenly')
    sub.add_argument('--worst', type=positive, default=20, help='how many pairs and samples to list (default: 20)')
    add_label_index(sub)
    add_class_names(sub)
    sub.add_argument('--out', metavar='PNG', help='draw the plots into this file')
    add_config_options(sub)

    sub = command(commands.clean, "List the samples whose label is among the teacher's top classes.")
    sub.add_argument('store', help='folder or URL of the store')
    sub.add_argument('--config', required=True, help='config of the teacher or of a student: it has the dataset')
    sub.add_argument('--out', required=True, metavar='FILE', help='list to write: a key a line')
    sub.add_argument('--top', type=positive, default=5, help='among so many classes (default: 5)')
    kept = sub.add_mutually_exclusive_group()
    kept.add_argument('--rule', choices=('any', 'most', 'all'), default='most',
                      help='in any view, in most (at least half, the default), or in all')
    kept.add_argument('--share', type=float, metavar='S', help='instead keep the best S of the samples: 0.86 is 86 %%')
    sub.add_argument('--views', type=parse_range, metavar='A:B', help='views A to B - 1 (default: all complete ones)')
    sub.add_argument('--worst', type=positive, default=10, help='how many labels to list (default: 10)')
    add_label_index(sub)
    add_class_names(sub)
    add_config_options(sub)

    sub = command(commands.gallery, 'Draw views as the teacher saw them, with what it said and the label.')
    sub.add_argument('store', nargs='?', help='folder or URL of the store (default: the one that the config names)')
    sub.add_argument('--config', required=True, help='config of the teacher or of a student: it has the dataset')
    sub.add_argument('--out', default='gallery.png', help='picture to write (default: gallery.png)')
    sub.add_argument('--rows', type=positive, default=6, help='how many samples, spread evenly (default: 6)')
    rows = sub.add_mutually_exclusive_group()
    rows.add_argument('--hardest', action='store_true', help='instead those on which teacher and label disagree most')
    rows.add_argument('--index', type=int, nargs='+', help='instead these samples')
    add_label_index(sub)
    sub.add_argument('--views', type=parse_range, metavar='A:B', help='views A to B - 1 (default: the first four)')
    add_class_names(sub)
    sub.add_argument('--top', type=positive, default=3, help='classes to name (default: 3)')
    add_config_options(sub)

    sub = command(commands.plan, 'Probe a teacher: what a store would cost, and how much of the teacher it would keep.')
    sub.add_argument('config', help='config of the teacher: one that saves logits')
    sub.add_argument('checkpoint', nargs='?', help="the teacher's checkpoint, file or URL")
    sub.add_argument('--images', type=positive, default=1000, help='images to probe, spread evenly (default: 1000)')
    sub.add_argument('--views', type=int, metavar='N',
                     help="views to plan for, at most one per epoch (default: the config's)")
    sub.add_argument('--disk', type=float, metavar='GIB', help='room for the store (default: what is free)')
    sub.add_argument('--hours', type=float, metavar='H', help='time for saving (default: any)')
    sub.add_argument('--max-kl', type=float, default=0.05,
                     help='nats that the stored target may differ from the teacher on average (default: 0.05)')
    add_config_options(sub)

    add_analysis(command, add_label_index, add_class_names)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    args.run(args)
