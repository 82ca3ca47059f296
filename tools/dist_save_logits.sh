#!/usr/bin/env bash
# Save a teacher's logits on several GPUs: tools/dist_save_logits.sh CONFIG GPUS [CHECKPOINT and flags of save_logits.py]
set -euo pipefail
export USAGE='tools/dist_save_logits.sh CONFIG GPUS [CHECKPOINT and flags of save_logits.py]' TOOL=save_logits.py
"$(dirname "$0")/dist_train.sh" "$@"
