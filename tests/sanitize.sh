#!/usr/bin/env bash
# Run the tests on a build that checks itself; fails on any report, and prints it.
#
#     tests/sanitize.sh address,undefined [pytest arguments]    bounds, lifetimes, undefined behaviour
#     tests/sanitize.sh thread [pytest arguments]               data races, in the tests with threads
#
# Needs what the README names for a build, GCC's sanitizer libraries, and the network for pip. The
# build stays in build/sanitize-*, so that the next run compiles what changed. It holds the kernels
# of one instruction set: BACKTRAIL_ISA, or v3.
set -euo pipefail
cd "$(dirname "$0")/.."
kinds=${1:?"say which sanitizers: address,undefined or thread"}
shift
folder=$PWD/build/sanitize-${kinds//,/-}
mkdir -p "$folder"
rm -f "$folder"/report.*

if [ ! -x "$folder/venv/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$folder/venv"
fi
unset PYTHONPATH PYTHONHOME
"$folder/venv/bin/pip" install -q --disable-pip-version-check ".[test]" \
  -C build-dir="$folder/build" -C install.strip=false -C cmake.define.BACKTRAIL_SANITIZE="$kinds" \
  -C cmake.define.BACKTRAIL_ISAS="${BACKTRAIL_ISA:-v3}"

# Python itself is not built with the sanitizers: their libraries come first by LD_PRELOAD, and
# libstdc++ with them, whose functions they wrap.
library() { "${CXX:-c++}" -print-file-name="$1"; }
common="log_path=$folder/report:exitcode=66"
case $kinds in
  thread)
    preload=$(library libtsan.so)
    # Not those that need a second instruction set or count seconds.
    tests=(tests/test_threads.py -k "not fork and not avx and not import and not ctrl")
    ;;
  *)
    preload="$(library libasan.so) $(library libubsan.so)"
    # Not those that count seconds.
    tests=(tests -k "not import_is_quick and not ctrl_c_stops")
    ;;
esac
[ $# -eq 0 ] || tests=("$@")

# Python's objects live until it ends, which is no leak; with malloc each has a block of its own.
# NumPy's products stay on one thread: the sanitizer does not see how theirs wait for each other.
status=0
env LD_PRELOAD="$preload $(library libstdc++.so.6)" PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1 \
  ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:$common" \
  UBSAN_OPTIONS="print_stacktrace=1:$common" \
  TSAN_OPTIONS="history_size=4:$common" \
  "$folder/venv/bin/python" -m pytest -q -p no:cacheprovider "${tests[@]}" || status=$?

if compgen -G "$folder/report.*" > /dev/null; then
  cat "$folder"/report.*
  echo "sanitize: reports above, kept in $folder" >&2
  exit 1
fi
exit $status
