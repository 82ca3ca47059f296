#!/bin/sh
# Usage: mmcv_operators.sh PYTHON
# Makes sure that onedl-mmcv has its compiled operators (nms, RoIAlign, ...), which detection needs. They are compiled
# only if the build sees torch, so it runs in the environment itself; what counts is that mmcv._ext imports afterwards.
set -eu
python=$1
here=$(dirname "$0")
pin=$(sed -n 's/^\(onedl-mmcv==[^ ]*\).*/\1/p' "$here/onedl.txt")
log=$("$python" -c 'import sys; print(sys.prefix)')/mmcv_operators.log
PATH=$(dirname "$python"):$PATH # the build finds ninja here
export PATH

have_operators() {
    "$python" -c 'import torch, mmcv._ext' 2>/dev/null
}

install() {
    # -O1 without debug information takes 5 minutes instead of 9, and 1 MB instead of 32.
    CFLAGS='-g0 -O1' MAX_JOBS=${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)} "$python" -m pip install --verbose --disable-pip-version-check \
        --no-compile --no-build-isolation --no-deps --force-reinstall "$@" "$pin" >"$log" 2>&1 &
    build=$!
    trap 'kill $build 2>/dev/null' INT TERM
    seconds=0
    while kill -0 $build 2>/dev/null; do
        sleep 1
        seconds=$((seconds + 1))
        if [ $((seconds % 30)) = 0 ]; then
            progress=$(grep -o '^ *\[[0-9]*/[0-9]*\]' "$log" | tail -n 1 | tr -d ' ')
            echo "  $seconds s, ${progress:-preparing}"
        fi
    done
    wait $build || { tail -n 20 "$log"; echo "Building $pin failed; the whole log is $log"; exit 1; }
}

if have_operators; then
    exit 0
fi
echo "Compiling the operators of $pin (about 6 minutes on 2 cores, seconds if pip has kept them) ..."
install
if ! have_operators; then
    echo "The $pin that pip has kept was built without usable operators: compiling again, past the cache ..."
    install --no-cache-dir --no-binary onedl-mmcv
fi
"$python" -c 'import torch, mmcv._ext' || { echo "$pin was built, but mmcv._ext does not import; the log is $log"; exit 1; }
