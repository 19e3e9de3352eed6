#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The recipe of docs/ci.md passes for the model that it was made for, and fails where it must: ci_recipe.sh SCRIPT BERTH
set -eu
script=$1
BERTH=$2
export BERTH
model=$(dirname -- "$script")/../models/llama-3-8b

"$script"
for machine_and_context in "preset:1x3060 8k" "preset:1x4090 256k" "preset:2x3060 8k"; do
  # shellcheck disable=SC2086  # two words
  if "$script" "$model" $machine_and_context; then
    echo "the recipe passes with $machine_and_context" >&2
    exit 1
  elif [ $? -ne 1 ]; then
    echo "the recipe ends with another code than 1 with $machine_and_context" >&2
    exit 1
  fi
done
