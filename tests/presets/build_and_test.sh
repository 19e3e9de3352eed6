#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build_and_test.sh PRESET KIND...: builds these kinds of test with the preset and runs them.
set -eu
top=$(readlink -f -- "$(dirname -- "$0")/../..")
program=$1
. "$top/cmake/bootstrap.sh"
preset=$1
shift

if [ "$preset" = tsan ] && ! grep -rqsE '#include <(thread|mutex|shared_mutex|atomic|future|condition_variable)>' \
  "$top/modules" "$top/sim" "$top/backends" "$top/tools"; then
  echo "tsan: skipped, nothing in berth uses a thread, lock or atomic"
  exit 77
fi

targets=
for kind in "$@"; do targets="$targets kind-$kind"; done
berth_tools
berth_configure "$preset" tests
# shellcheck disable=SC2086  # a list of words
berth_build "$preset" $targets
labels=$(echo "$*" | tr ' ' '|')
exec "$ctest" --test-dir "$top/build/$preset" --output-on-failure --no-tests=error -j "$(nproc)" -L "^($labels)\$"
