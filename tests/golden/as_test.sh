#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# as_test.sh RUNNER [ARG...]: the golden runner as a test. Without data it is skipped (exit 77); where data is required
# the runner fails by itself, and that stays a failure.
output=$("$@" 2>&1)
code=$?
printf '%s\n' "$output"
case $code:$output in
  0:*"golden: skipped, no data"*) exit 77 ;;
esac
exit $code
