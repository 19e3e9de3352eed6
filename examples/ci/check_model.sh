#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fails when a model no longer fits its machine without offloading, or is slower than the committed baseline.
#   check_model.sh [MODEL [TOPOLOGY [CONTEXT]]]
# BERTH names the command (default: the launcher of this repository).
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
berth=${BERTH:-$here/../../berth}
model=${1:-$here/../models/llama-3-8b}
machine=${2:-preset:1x4090}
context=${3:-8k}
exec "$berth" simulate "$model" --topology "$machine" --context "$context" \
  --fail-on offload --max-ttft 500ms --min-tokens-per-second 40 \
  --baseline "$here/baseline.json" --max-slowdown 2
