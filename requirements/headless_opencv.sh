#!/bin/sh
# Usage: headless_opencv.sh PYTHON
# onedl-mmcv asks for opencv-python and mmdet for both packagings, which share one folder; whichever was written last is
# imported. The headless one is the same decoder and needs no libGL: write it last.
set -eu
python=$1
headless=$("$python" -c 'import cv2.version; print(cv2.version.headless)' 2>/dev/null || echo broken)
if [ "$headless" != True ]; then
    pin=$(sed -n 's/^\(opencv-python-headless==[^ ]*\).*/\1/p' "$(dirname "$0")/onedl.txt")
    "$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --force-reinstall "$pin"
fi
