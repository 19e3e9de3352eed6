#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# program.sh WRITE_CHECKPOINT EXAMPLE: the example's program prints the same tokens for every plan of a checkpoint, also
# for a plan that it has written and read again.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for family in llama mixtral gpt2; do
  "$1" "$folder/$family" $family 7
  expected=
  for options in "--strategy cpu" "--topology 2x3090 --strategy single:0" "--topology 2x3090 --strategy balanced" \
    "--topology 2x3090 --strategy auto --threads 0" "--topology 2x3090 --strategy single:1 --write-plan $folder/plan" \
    "--plan $folder/plan"; do
    # shellcheck disable=SC2086
    "$2" "$folder/$family" $options >"$folder/out"
    tokens=$(grep '^tokens:' "$folder/out")
    grep -q '^measured: loaded in .* first token after ' "$folder/out"
    grep -q '^simulated: loaded in .* first token after ' "$folder/out"
    echo "$family $options: $tokens"
    [ "$(echo "$tokens" | wc -w)" = 17 ]
    [ -z "$expected" ] || [ "$tokens" = "$expected" ]
    expected=$tokens
  done
done
