#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the unit and golden tests in the coverage preset and prints which part of each file they reach. What is
# evaluated at compile time is not counted.
set -eu
here=$(readlink -f -- "$(dirname -- "$0")")
top=$(readlink -f -- "$here/../..")
profiles=$top/build/coverage/profiles
rm -rf "$profiles"
LLVM_PROFILE_FILE=$profiles/%p-%m.profraw "$here/build_and_test.sh" coverage unit golden
llvm-profdata-19 merge -sparse -o "$profiles/all.profdata" "$profiles"/*.profraw
set --
for program in "$top"/build/coverage/tests/unit/berth_unit_* "$top"/build/coverage/tests/golden/berth_golden; do
  if [ -x "$program" ] && [ -f "$program" ]; then set -- "$@" -object "$program"; fi
done
llvm-cov-19 report "$@" -instr-profile "$profiles/all.profdata" --ignore-filename-regex='(tests|/usr)/' |
  tee "$top/build/coverage/report.txt"
