#!/usr/bin/env bash
# Cross-compile the kernels and the plan for aarch64 and run them in user-mode emulation.
# Exits with 0 and says so when the cross compiler or the emulator is not there.
set -euo pipefail
cd "$(dirname "$0")/../.."

prefix=aarch64-linux-gnu
for tool in "$prefix-g++" qemu-aarch64; do
  if ! command -v "$tool" > /dev/null; then
    echo "skipped: no $tool (Debian: apt install g++-$prefix qemu-user)"
    exit 0
  fi
done

out=${1:-$(mktemp -d)}
mkdir -p "$out"
flags=(-std=gnu++17 -O2 -fopenmp -ffp-contract=off -fno-math-errno -fno-trapping-math
  -Wall -Wextra -Wno-psabi -Werror -fvisibility=hidden -Icsrc -Icsrc/include
  -DBACKTRAIL_WITH_base)
export out prefix
compile() {  # source, then flags
  local object=$out/${1//\//_}.o
  "$prefix-g++" "${@:2}" -c "$1" -o "$object"
}
export -f compile

{
  printf '%s -DBACKTRAIL_TARGET=base -DBACKTRAIL_DERIVED\n' csrc/kernels/*.cpp
  printf '%s\n' csrc/core/*.cpp csrc/dispatch/*.cpp csrc/{exec,plan,library}/*.cpp tests/cross/kernels_main.cpp
} | xargs -P "$(nproc)" -I{} bash -c "set -e; compile {} ${flags[*]}"

"$prefix-g++" -fopenmp "$out"/*.o -o "$out/kernels"
qemu-aarch64 -L "/usr/$prefix" "$out/kernels"
