"""Export a classifier, or the feature maps of its backbone, to ONNX.

    mmtinyvit export mmtinyvit-5m_in21k-distill-pre_3rdparty_in1k tiny_vit_5m.onnx --pretrained
    mmtinyvit export published/student-1a2b3c4d.safetensors student.onnx
    mmtinyvit export configs/tinyvit/tiny_vit_21m_finetune_in1k_384.py tiny_vit_21m_384.onnx \\
        --checkpoint work_dirs/tiny_vit_21m_finetune_in1k_384/epoch_30.pth
    mmtinyvit export published/student-1a2b3c4d.safetensors maps.onnx --features --size 480 640

Input: `images` (B, C, H, W) float32, RGB where C is 3, normalised by the mean and std that the file's metadata hold.
The batch is free, height and width are fixed. The file is run in onnxruntime and compared with PyTorch before it is
written.
"""
import argparse
from collections.abc import Sequence
from pathlib import Path

from mmtinyvit.errors import UserError

from .tables import fact_table, print_tables, size

__all__ = ['build_parser', 'main']


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Export a classifier or its backbone to ONNX.')
    parser.add_argument('model', help='name of a published model, config, or file of mmtinyvit publish')
    parser.add_argument('destination', type=Path, help='the .onnx file to write')
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument('--pretrained', action='store_true', help='the published weights of the name')
    weights.add_argument('--checkpoint', help='weights for the name or config, file or URL')
    parser.add_argument('--size', type=int, nargs='+', metavar='PIXELS',
                        help="side of the images, or height and width (default: those of the model's test)")
    parser.add_argument('--features', action='store_true', help='the maps at strides 4, 8, 16, 32 (TinyViT)')
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    if args.size and (len(args.size) > 2 or min(args.size) < 1):
        raise UserError('--size takes one side, or height and width, in pixels.')
    from mmtinyvit.apis.models import get_model  # seconds: not for --help
    from mmtinyvit.apis.onnx_export import export_onnx, image_size

    own = Path(args.model).suffix in ('.pth', '.safetensors')
    if not (own or args.pretrained or args.checkpoint):
        get_model(args.model)  # says so if there is no such model
        raise UserError(f'{args.model} has no weights yet: add --pretrained, or --checkpoint FILE.')
    model = get_model(args.model, pretrained=args.checkpoint or args.pretrained)
    height, width = (args.size[0], args.size[-1]) if args.size else image_size(model)
    done = export_onnx(model, args.destination, (height, width), args.features)
    print_tables(fact_table({
        'file': args.destination, 'images': f"({', '.join(map(str, done.images))})",
        'outputs': '\n'.join(f"{name} ({', '.join(map(str, shape))})" for name, shape in done.outputs),
        'opset': done.opset, 'size': size(done.num_bytes),
        'largest difference to PyTorch': f'{done.difference:.1e}, over batches of one and three'}))
