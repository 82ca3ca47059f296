"""Export a classifier, or the feature maps of its backbone, to ONNX.

The same as ``mmtinyvit export``.

    python tools/export_onnx.py mmtinyvit-5m_in21k-distill-pre_3rdparty_in1k tiny_vit_5m.onnx --pretrained
    python tools/export_onnx.py published/student-1a2b3c4d.safetensors student.onnx
    python tools/export_onnx.py configs/tinyvit/tiny_vit_21m_finetune_in1k_384.py tiny_vit_21m_384.onnx \\
        --checkpoint work_dirs/tiny_vit_21m_finetune_in1k_384/epoch_30.pth
    python tools/export_onnx.py published/student-1a2b3c4d.safetensors maps.onnx --features --size 480 640

Input: `images` (B, C, H, W) float32, RGB where C is 3, normalised by the mean and std that the file's metadata hold.
The batch is free, height and width are fixed. The file is run in onnxruntime and compared with PyTorch before it is
written.
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.export import main

if __name__ == '__main__':
    run_command(main)
