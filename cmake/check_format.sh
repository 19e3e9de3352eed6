#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_format.sh ROOT [--fix]: every source file is as clang-format writes it and starts with the licence line.
# Another version of clang-format breaks lines elsewhere, hence the number in the name.
set -eu
cd "$1"
mode="--dry-run -Werror"
[ "${2:-}" = --fix ] && mode=-i
files=$(mktemp)
trap 'rm -f "$files"' EXIT
find modules sim backends tools tests examples bench -type f \
  \( -name '*.cppm' -o -name '*.cpp' -o -name '*.hpp' -o -name '*.h' -o -name '*.cu' \) 2>/dev/null | sort >"$files" || :
if [ ! -s "$files" ]; then
  echo "format: no source file found in $1" >&2
  exit 1
fi
status=0
# shellcheck disable=SC2086  # options
xargs -P "$(nproc)" -n 16 clang-format-19 $mode <"$files" || status=1
while read -r file; do
  if ! head -n 1 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0'; then
    echo "$file:1: the first line is not // SPDX-License-Identifier: Apache-2.0" >&2
    status=1
  fi
done <"$files"
[ $status = 0 ] || echo "format: cmake/check_format.sh . --fix mends the formatting" >&2
exit $status
