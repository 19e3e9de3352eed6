#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run_bundle.sh [RESULT.json]: runs everything of the bundle on this machine's GPU and writes one JSON: device, driver,
# date, version, and every figure. Without a device it says so, prints no figure and leaves with 77.
#   GIB=8       size of the checkpoint that is loaded (0: none)
#   FOLDER=.    where the checkpoint is written; its disk is what loading reads
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
out=${1:-gpu-result.json}
gib=${GIB:-8}
folder=${FOLDER:-.}

skip() {
  echo "skipped: no device ($1)"
  exit 77
}
if [ ! -x "$here/bin/berth_bench_gpu" ]; then
  [ -e /dev/nvidiactl ] || [ -e /dev/dxg ] || skip "there is no NVIDIA driver here"
  echo "run_bundle: $here has no bin/; build the bundle with gpu/build_bundle.sh and run the copy inside it" >&2
  exit 2
fi
LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
[ ! -d "$here/data" ] || export BERTH_DATA="${BERTH_DATA:-$here/data}"

work=$(mktemp -d "$folder/berth-gpu.XXXXXX")
work=$(CDPATH= cd -- "$work" && pwd)
trap 'rm -rf "$work"' EXIT
if ! "$here/bin/berth_bench_gpu" --device >"$work/device.json" 2>"$work/device.log"; then
  skip "$(cat "$work/device.json" "$work/device.log" | tail -n 1)"
fi

# text FILE: the file as a JSON string. step NAME COMMAND...: runs it and keeps exit code and the end of its output.
text() { tail -c 4000 "$1" | tr -d '\000-\010\013-\037' | sed 's/\\/\\\\/g; s/"/\\"/g; s/\t/ /g' | awk '{ printf "%s\\n", $0 }'; }
steps=$work/steps.json
: >"$steps"
add() { # NAME: adds "NAME": <what stdin says>
  [ ! -s "$steps" ] || printf ',\n' >>"$steps"
  printf '  "%s": ' "$1" >>"$steps"
  cat >>"$steps"
}
step() {
  name=$1
  shift
  echo "$name ..." >&2
  code=0
  "$@" >"$work/log" 2>&1 || code=$?
  printf '{"exit": %d, "output": "%s"}' "$code" "$(text "$work/log")" | add "$name"
}
# figures NAME COMMAND...: a command whose output is JSON already.
figures() {
  name=$1
  shift
  echo "$name ..." >&2
  code=0
  "$@" >"$work/json" 2>"$work/log" || code=$?
  if [ "$code" = 0 ] && [ -s "$work/json" ]; then
    add "$name" <"$work/json"
  else
    printf '{"exit": %d, "output": "%s"}' "$code" "$(text "$work/log")" | add "$name"
  fi
}

berth=$here/bin/berth
step conformance "$here/bin/berth_conformance" --run_test=cuda --report_level=short --color_output=no
step kernels "$here/bin/berth_kernels_gpu" --report_level=short --color_output=no
if command -v compute-sanitizer >/dev/null 2>&1; then
  for tool in memcheck racecheck synccheck; do
    step "sanitizer_$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 "$here/bin/berth_kernels_gpu" \
      --report_level=short --color_output=no
  done
fi
figures bench "$here/bin/berth_bench_gpu"
figures topology "$berth" calibrate --seconds 5 --folder "$work" --format json
[ ! -s "$work/json" ] || cp "$work/json" "$work/topology.json"

# Loading and streaming: a plan that is resident, one with half of the weights streamed, and one in int8.
load() { # NAME PLAN-OPTION...
  name=$1
  shift
  if ! "$berth" plan "$work/model" --topology "$work/topology.json" --format json "$@" >"$work/$name.plan" 2>"$work/log"; then
    printf '{"exit": 1, "output": "%s"}' "$(text "$work/log")" | add "$name"
    return 0
  fi
  figures "$name" "$berth" load "$work/model" --plan "$work/$name.plan" --machine cuda --rounds 64 --format json
  figures "${name}_simulated" "$berth" simulate "$work/$name.plan" --format json
}
if [ "$gib" != 0 ] && command -v python3 >/dev/null 2>&1; then
  python3 "$here/make_checkpoint.py" "$work/model" --gib "$gib" >&2
  load resident
  load streamed -m "0=$((gib * 6 / 10))GiB"
  load int8 --load-in 8bit
else
  printf '"not run: python3 is missing or GIB=0"' | add resident
fi

{
  printf '{"format": "berth.gpu_result/1", "version": "%s", "date": "%s",\n "device": ' \
    "$(cat "$here/version")" "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
  cat "$work/device.json"
  printf ',\n "results": {\n'
  cat "$steps"
  printf '\n }}\n'
} >"$out"
echo "$out"
