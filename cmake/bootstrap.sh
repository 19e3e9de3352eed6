# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC1090,SC2034,SC2154
# Sets a machine up and builds, for ./berth, ./test and the tests that build other presets. Sourced, with $top (the
# checkout) and $program (the name for messages) set. Everything here goes to stderr and only when there is something
# to do: stdout belongs to the program.
#
#   berth_setup command|tests              packages, CMake, Ninja          exit 2: not root, 3: unknown system
#   berth_configure PRESET command|tests   unless that is done already     exit 3: it failed
#   berth_build PRESET TARGET...           what changed                    exit 3: it failed
#
# BERTH_SKIP_SETUP=1 takes the compiler, CMake and Ninja as they are in PATH: for systems that this file does not know.

say() { printf '%s: %s\n' "$program" "$*" >&2; }

needs="clang 19 with clang-scan-deps and lld, CMake 3.28 or newer, Ninja 1.11 or newer, Python 3,
Boost 1.75 or newer (headers; Boost.Test for the tests), range-v3, CLI11, fmt, pugixml, RE2, xxHash;
for the tests also compiler-rt, llvm, clang-format and google-benchmark"

# Prints the packages of this system that $1 (command or tests) takes; fails on an unknown system.
berth_packages() {
  common="clang-19 clang-tools-19 lld-19
    librange-v3-dev libcli11-dev libfmt-dev libpugixml-dev libre2-dev libxxhash-dev"
  more="libclang-rt-19-dev llvm-19 clang-format-19 clang-tidy-19 libbenchmark-dev pkg-config"
  case $(. "${BERTH_OS_RELEASE:-/etc/os-release}" 2>/dev/null && echo "${ID:-}:${VERSION_ID:-}") in
    debian:12) common="$common python3-venv libboost-json1.81-dev" more="$more libboost-test1.81-dev" ;;
    debian:13) common="$common python3 cmake ninja-build libboost-json-dev" more="$more libboost-test-dev" ;;
    ubuntu:24.04)
      common="$common python3 cmake ninja-build libboost-json1.83-dev" more="$more libboost-test1.83-dev" ;;
    *) return 1 ;;
  esac
  if [ "$1" = tests ]; then echo "$common $more"; else echo "$common"; fi
}

berth_setup() {
  if [ "${BERTH_SKIP_SETUP:-}" = 1 ]; then
    berth_tools
    return
  fi
  if ! packages=$(berth_packages "$1"); then
    say "this system is not one of Debian 12, Debian 13, Ubuntu 24.04. berth needs"
    echo "$needs" >&2
    say "with these in PATH, set BERTH_SKIP_SETUP=1 and run again"
    exit 3
  fi
  # shellcheck disable=SC2086  # a list of words
  have=" $(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $packages 2>/dev/null |
    sed -n 's/^installed //p' | tr '\n' ' ') "
  missing=
  for package in $packages; do
    case $have in *" $package "*) ;; *) missing="$missing $package" ;; esac
  done
  [ -z "$missing" ] || berth_install
  case " $packages " in *" cmake "*) ;; *) berth_venv ;; esac
  berth_tools
}

berth_install() {
  # --no-remove: rather stop than uninstall what this machine has (the -dev packages of two Boosts conflict).
  options="-y --no-remove --no-install-recommends"
  if [ "$(id -u)" != 0 ]; then
    say "missing packages; run as root: apt-get update && apt-get install $options$missing"
    exit 2
  fi
  say "installing$missing"
  log=$(mktemp)
  # shellcheck disable=SC2086
  if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq $options $missing; } \
    >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    rm -f "$log"
    say "could not install the missing packages; see above"
    exit 2
  fi
  rm -f "$log"
}

# Debian 12's own CMake is too old for modules. The stamp is written last, so that a broken environment is redone; it
# names the folder, because an environment that was moved does not work. Raise the number when the versions change.
berth_venv() {
  stamp=$top/.venv/.berth made=
  if [ -r "$stamp" ]; then read -r made <"$stamp" || :; fi
  [ "$made" = "1 $top" ] && return
  say "fetching CMake and Ninja into .venv"
  rm -rf "$top/.venv"
  log=$(mktemp)
  if ! { /usr/bin/python3 -m venv "$top/.venv" &&
    "$top/.venv/bin/pip" install --disable-pip-version-check -q 'cmake>=4.4,<4.5' 'ninja>=1.11,<2'; } \
    >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    rm -f "$log"
    say "could not fetch CMake and Ninja from PyPI; see above"
    exit 2
  fi
  rm -f "$log"
  echo "1 $top" >"$stamp"
}

# Finds the build tools that berth_setup provided.
berth_tools() {
  bin=
  if [ "${BERTH_SKIP_SETUP:-}" != 1 ] && [ -x "$top/.venv/bin/cmake" ]; then bin=$top/.venv/bin/; fi
  cmake=${bin}cmake ctest=${bin}ctest ninja=${bin}ninja
}

# One build of a preset at a time: two at once would destroy each other's files.
berth_lock() {
  mkdir -p "$top/build"
  exec 9>"$top/build/$1.lock"
  if command -v flock >/dev/null; then flock 9; fi
}
berth_unlock() { exec 9>&-; }

# A folder configured for the tests serves the command too, so it is never configured back.
berth_configure() {
  folder=$top/build/$1 stamp=$top/build/$1/.berth made=
  berth_lock "$1"
  if [ -r "$stamp" ]; then read -r made <"$stamp" || :; fi
  if [ -e "$folder/CMakeCache.txt" ] && [ "${made#* }" != "$top" ] && [ -n "$made" ]; then
    rm -rf "$folder"  # of a checkout that was moved
    made=
  fi
  mode=$2
  case $made in tests*) mode=tests ;; esac
  if [ "$made" = "$mode $top" ] && [ -e "$folder/build.ninja" ] &&
    [ -z "$(find "$top/CMakePresets.json" -newer "$stamp")" ]; then
    berth_unlock
    return
  fi
  if [ "$mode" = tests ]; then part=ON; else part=OFF; fi
  mkdir -p "$folder"
  if ! (cd "$top" && "$cmake" --preset "$1" -DCMAKE_MAKE_PROGRAM="$(command -v "$ninja")" -DBERTH_BUILD_TESTS=$part \
    -DBERTH_BUILD_EXAMPLES=$part -DBERTH_BUILD_BENCH=$part) >"$folder/configure.log" 2>&1 9>&- </dev/null; then
    cat "$folder/configure.log" >&2
    say "could not configure preset $1; see above"
    exit 3
  fi
  echo "$mode $top" >"$stamp"
  berth_unlock
}

berth_build() {
  preset=$1 note=
  shift
  berth_lock "$preset"
  [ -e "$top/build/$preset/.ninja_log" ] || note=" (a first build takes some minutes)"
  {
    NINJA_STATUS='[%f/%t] ' "$ninja" -C "$top/build/$preset" "$@" 2>&1 9>&- </dev/null && echo "@done" || echo "@failed"
  } | berth_progress "$top/build/$preset/build.log" || {
    say "the build failed; see above"
    exit 3
  }
  berth_unlock
}

# Reads what Ninja prints: shows a short progress line, keeps the rest, and shows that only when the build failed.
berth_progress() {
  : >"$1"
  if [ -t 2 ]; then clear=$(printf '\r\033[K'); else clear=; fi
  shown=
  while IFS= read -r line; do
    case $line in
      @done) [ -z "$shown" ] || printf %s "$clear" >&2; return 0 ;;
      @failed) [ -z "$shown" ] || printf %s "$clear" >&2; cat "$1" >&2; return 1 ;;
      *"Re-checking globbed directories"* | "ninja: Entering directory"* | "ninja: no work to do.") ;;
      \[*/*\]*)
        if [ -n "$clear" ]; then
          printf '%s%s: building %s' "$clear" "$program" "${line%%]*}]" >&2
        elif [ -z "$shown" ]; then
          say "building$note"
        fi
        shown=1 ;;
      *) printf '%s\n' "$line" >>"$1" ;;
    esac
  done
  return 1
}
