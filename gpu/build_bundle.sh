#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build_bundle.sh [OUT.tar.gz]: builds what measures on a GPU machine and packs it with everything it needs but the C
# library and the NVIDIA driver. Needs nvcc; needs no GPU. The machine that runs it needs a C library as new as this
# one's. docs/gpu_bundle.md
set -eu
top=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
out=${1:-$top/build/berth-gpu-bundle.tar.gz}
build=$top/build/gpu-bundle
cd "$top"
cmake --preset gpu-bundle >&2
cmake --build --preset gpu-bundle --target berth_cli berth_conformance berth_kernels_gpu berth_bench_gpu >&2

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
root=$stage/berth-gpu-bundle
mkdir -p "$root/bin" "$root/lib" "$root/models"
cp "$build/tools/berth" "$build/tests/conformance/berth_conformance" "$build/tests/kernels/berth_kernels_gpu" \
  "$build/bench/berth_bench_gpu" "$root/bin/"
cp -r examples/models/llama-3-8b "$root/models/"
cp gpu/run_bundle.sh gpu/make_checkpoint.py gpu/side_by_side.py "$root/"
if [ -n "${BERTH_DATA:-}" ] && [ -f "$BERTH_DATA/golden/int8_vectors.json" ]; then
  mkdir -p "$root/data/golden"
  cp "$BERTH_DATA/golden/int8_vectors.json" "$root/data/golden/"
fi
git describe --always --dirty >"$root/version" 2>/dev/null || echo unknown >"$root/version"
# Every library that is not the C library's own; those must be the ones of the machine.
for program in "$root"/bin/*; do
  ldd "$program" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }'
done | sort -u | while read -r library; do
  case $(basename "$library") in
    libc.so.* | libm.so.* | libdl.so.* | librt.so.* | libpthread.so.* | ld-linux* | libcuda.so.*) ;;
    *) cp -L "$library" "$root/lib/" ;;
  esac
done
strip "$root"/bin/* 2>/dev/null || :
tar -C "$stage" -czf "$out" berth-gpu-bundle
echo "$out"
