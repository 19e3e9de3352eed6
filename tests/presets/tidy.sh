#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tidy.sh BUILD: clang-tidy with .clang-tidy on the implementation units and the command, after a build in BUILD.
set -eu
cd "$(dirname -- "$0")/../.."
find modules sim backends tools -name '*.cpp' ! -name boost_json.cpp 2>/dev/null | sort |
  xargs -P "$(nproc)" -n 1 clang-tidy-19 -p "$1" --quiet --warnings-as-errors='*'
