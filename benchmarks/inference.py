"""TinyViT on a CPU in the runtimes that a user would pick: eager, compiled, onnxruntime, OpenVINO; float32 and int8.

    python benchmarks/inference.py --quick
    python benchmarks/inference.py --arch 21m --batch-size 1 16 --json inference.json
    MMTINYVIT_DATA=... python benchmarks/inference.py --checkpoint student.safetensors

timm's network, with the same weights and exported in the same way, runs beside ours, after the outputs of both were
compared. Each runtime lives in a process of its own, and these take turns. int8 is made by onnxruntime's own quantiser
(static, activations calibrated on the first 32 images); how far its logits are from those of float32 is measured on
the next images: real photos where MMTINYVIT_DATA is set, otherwise noise. Without ``--checkpoint`` the weights are
random, and then the distance says something, but which class comes first does not. OpenVINO takes part if it is
installed (``pip install mmtinyvit[export,openvino]``); it computes in float32, and in int8 from onnxruntime's file.
"""
import argparse
import logging
import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import timm
import torch
from apart import apart
from harness import compare, report
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmtinyvit.apis.onnx_export import export_onnx
from mmtinyvit.models.checkpoint_keys import convert_state_dict
from mmtinyvit.models.checkpoints import read_state_dict
from mmtinyvit.models.weights import fill_module

SIZE = 224
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CALIBRATED, COMPARED = 32, 64  # images
EXACT = 1e-4  # of the largest logit
WIDTHS = {'5m': 320, '11m': 448, '21m': 576}


def main() -> None:
    args = parse_args()
    logging.disable(logging.INFO)  # MMEngine tells of each tensor
    torch.set_num_threads(args.threads)
    images, source = load_images(CALIBRATED + (8 if args.quick else COMPARED))
    with TemporaryDirectory() as folder:
        files = write_files(args, Path(folder), images[:CALIBRATED])
        agreement = compare_int8(files, images[CALIBRATED:], args)
        report(f'int8 against float32, {args.arch}, {len(images) - CALIBRATED} {source}, '
               f'{"weights of " + args.checkpoint if args.checkpoint else "random weights"}', agreement, args.json)
        with apart(names(args)) as processes:
            for batch in args.batch_size:
                batch_images = images[np.arange(batch) % len(images)]
                for made in [each.make(make, name, files, batch_images, args) for name, each in processes.items()]:
                    made.result()
                check_equal({name: each.run('logits') for name, each in processes.items() if 'int8' not in name})
                steps = {name: partial(each.run, 'step') for name, each in processes.items()}
                results = compare(steps, repeats=args.repeats)
                for row in results.values():
                    row['images/s'] = batch / row['median_s']
                report(f'inference, {args.arch}, {SIZE}x{SIZE}, batch {batch}', results, args.json, **vars(args))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--arch', choices=list(WIDTHS), default='5m')
    parser.add_argument('--batch-size', type=int, nargs='+', default=[1, 16])
    parser.add_argument('--checkpoint', metavar='FILE', help='weights of an ImageClassifier of 1,000 classes')
    parser.add_argument('--no-compile', action='store_true', help='leave torch.compile out, which builds for minutes')
    parser.add_argument('--quick', action='store_true', help='5m, batch 1, without torch.compile')
    parser.add_argument('--repeats', type=int, default=15)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--json', metavar='FILE', help='add the tables to this file')
    args = parser.parse_args()
    if args.quick:
        args.arch, args.batch_size, args.no_compile, args.repeats = '5m', [1], True, 3
    return args


def names(args: argparse.Namespace) -> list[str]:
    """What takes part: network and runtime; the first is what the others are measured against."""
    runtimes = ['onnxruntime', 'eager', *['compiled'] * (not args.no_compile), *['OpenVINO'] * has_openvino()]
    floats = [f'{network}, {runtime}' for runtime, network in product(runtimes, ('ours', 'timm'))]
    return floats + ['ours, onnxruntime int8', *['ours, OpenVINO int8'] * has_openvino()]


def has_openvino() -> bool:
    return find_spec('openvino') is not None


# ---------------------------------------------------------------- networks and files
def build(network: str, state_dict: dict) -> nn.Module:
    """Our classifier, or timm's, with 1,000 classes and these weights."""
    arch = next(arch for arch, width in WIDTHS.items() if width == state_dict['head.fc.weight'].shape[1])
    if network == 'timm':
        model = timm.create_model(f'tiny_vit_{arch}_224', num_classes=1000)
        model.load_state_dict(convert_state_dict(state_dict, 'timm'))
        return model.eval()
    model = our_classifier(arch)
    model.load_state_dict(state_dict)
    return model.eval()


def our_classifier(arch: str) -> nn.Module:
    init_default_scope('mmpretrain')
    return MODELS.build(dict(
        type='ImageClassifier', data_preprocessor=dict(mean=MEAN, std=STD, to_rgb=True),
        backbone=dict(type='mmtinyvit.TinyViT', arch=arch),
        head=dict(type='LinearClsHead', num_classes=1000, in_channels=WIDTHS[arch])))


def write_files(args: argparse.Namespace, folder: Path, images: np.ndarray) -> dict[str, str]:
    """The weights, and the ONNX files ``ours``, ``timm`` and ``int8``."""
    files = {name: str(folder / f'{name}.onnx') for name in ('ours', 'timm', 'int8')}
    files['weights'] = str(folder / 'weights.pth')
    torch.manual_seed(0)
    model = our_classifier(args.arch)
    if args.checkpoint:
        fill_module(model, read_state_dict(args.checkpoint), args.checkpoint)
    else:
        model.init_weights()
        with torch.no_grad():
            for name, value in model.state_dict().items():
                if name.endswith('running_var'):
                    value.uniform_(.5, 1.5)
                elif name.endswith('.bn.weight'):
                    value.add_(torch.rand_like(value))
    torch.save(model.state_dict(), files['weights'])
    theirs = build('timm', model.state_dict())
    torch.onnx.export(theirs, (torch.zeros(2, 3, SIZE, SIZE), ), files['timm'], dynamo=True, verbose=False,
                      external_data=False, input_names=['images'], output_names=['logits'],
                      dynamic_shapes=({0: torch.export.Dim('batch')}, ))
    export_onnx(model, Path(files['ours']), (SIZE, SIZE))
    quantise(files['ours'], files['int8'], images)
    return files


def quantise(source: str, destination: str, images: np.ndarray) -> None:
    """onnxruntime's static quantiser: 8 bits for the weights, by channel, and for the activations around them."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        left = iter([dict(images=image[None]) for image in images])

        def get_next(self) -> dict | None:
            return next(self.left, None)

    prepared = f'{destination}.prepared'
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(prepared, destination, Images(), QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    op_types_to_quantize=['Conv', 'MatMul', 'Gemm'])


# ---------------------------------------------------------------- images
def load_images(num: int) -> tuple[np.ndarray, str]:
    """Normalised images ``(num, 3, 224, 224)``, and what they are."""
    root = os.environ.get('MMTINYVIT_DATA')
    if not root:
        return np.random.default_rng(0).standard_normal((num, 3, SIZE, SIZE), np.float32), 'images of noise'
    from PIL import Image
    paths = sorted(Path(root, 'imagenet_sample').rglob('*.JPEG'))
    images = []
    for path in paths[::max(1, len(paths) // num)][:num]:
        image = Image.open(path).convert('RGB').resize((SIZE, SIZE), Image.BICUBIC)
        images.append(((np.asarray(image, np.float32) - MEAN) / STD).transpose(2, 0, 1))
    return np.stack(images).astype(np.float32), 'photos of imagenet_sample'


def compare_int8(files: dict[str, str], images: np.ndarray, args: argparse.Namespace) -> dict[str, dict]:
    """How far int8 is from float32: relative error of the logits, divergence, and how often the same class is first."""
    exact, rounded = (np.concatenate([run_onnxruntime(session, image[None]) for image in images])
                      for session in (onnxruntime_session(files[name], args.threads) for name in ('ours', 'int8')))
    log_p, log_q = (torch.from_numpy(logits).log_softmax(1) for logits in (exact, rounded))
    divergence = (log_p.exp() * (log_p - log_q)).sum(1).mean().item()
    return {'int8': dict(relative_error=float(np.linalg.norm(rounded - exact) / np.linalg.norm(exact)),
                         divergence_nats=f'{divergence:.2e}',
                         same_top1=float((exact.argmax(1) == rounded.argmax(1)).mean()))}


# ---------------------------------------------------------------- one runtime in its process
def make(name: str, files: dict[str, str], images: np.ndarray, args: argparse.Namespace) -> dict[str, Callable]:
    """A ``step`` to time, and its ``logits``."""
    logging.disable(logging.INFO)
    network, runtime = name.split(', ')
    file = files['int8' if runtime.endswith('int8') else network]
    if runtime.startswith('onnxruntime'):
        call = partial(run_onnxruntime, onnxruntime_session(file, args.threads), images)
    elif runtime.startswith('OpenVINO'):
        call = partial(run_openvino, openvino_model(file, args.threads), images)
    else:
        torch.set_num_threads(args.threads)
        model = build(network, torch.load(files['weights'], weights_only=True))
        if network == 'ours':
            model.backbone.fuse()
        call = partial(run_torch, torch.compile(model) if runtime == 'compiled' else model, torch.from_numpy(images))
    return dict(step=call, logits=call)


def run_torch(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return model(images).numpy()


def onnxruntime_session(file: str, threads: int):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(file, options, providers=['CPUExecutionProvider'])


def run_onnxruntime(session, images: np.ndarray) -> np.ndarray:
    return session.run(None, dict(images=images))[0]


def openvino_model(file: str, threads: int):
    import openvino
    settings = dict(INFERENCE_NUM_THREADS=threads, INFERENCE_PRECISION_HINT='f32', PERFORMANCE_HINT='LATENCY')
    return openvino.Core().compile_model(file, 'CPU', settings)


def run_openvino(model, images: np.ndarray) -> np.ndarray:
    return model([images])[0]


def check_equal(logits: dict[str, np.ndarray]) -> None:
    """Refuse to time runtimes that disagree with the first."""
    reference = next(iter(logits.values()))
    for name, each in logits.items():
        error = abs(each - reference).max() / abs(reference).max()
        if not error <= EXACT:
            raise SystemExit(f'{name} differs from ours in onnxruntime by {error:.1e} of the largest logit.')


if __name__ == '__main__':
    main()
