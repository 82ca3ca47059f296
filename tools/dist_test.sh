#!/usr/bin/env bash
# Test on several GPUs: tools/dist_test.sh CONFIG CHECKPOINT GPUS [flags of tools/test.py]
set -euo pipefail
export USAGE='tools/dist_test.sh CONFIG CHECKPOINT GPUS [flags of tools/test.py]' TOOL=test.py
"$(dirname "$0")/dist_train.sh" "${1:-}" "${3:-}" "${2:-}" "${@:4}"
