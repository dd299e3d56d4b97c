#!/bin/sh
# test.sh: installs what is missing, builds and runs all tests.
#   test.sh           release build, Python environment with the real peers, every test
#   test.sh --quick   without the Python environment: tests that need it are skipped, and say so
#   test.sh asan      under AddressSanitizer and UndefinedBehaviorSanitizer: all tests that need no Python packages
#   test.sh tsan      under ThreadSanitizer: the converter's pipeline and the loader
# CUDA code is compiled where nvcc is found; tests on a GPU are skipped, and say so, where there is none.
set -eu
cd "$(dirname "$0")/.."

sh scripts/install_deps.sh

beside=  # a process that runs beside this one, and ends with it at the latest
trap '[ -z "$beside" ] || kill "$beside" 2>/dev/null || true' EXIT

sanitized() {  # preset, targets...
  preset=$1
  shift
  cmake --preset "$preset" -DQ4_ENABLE_CUDA=OFF
  cmake --build --preset "$preset" --target "$@"
}

# Machine code for one generation, and PTX that every newer device compiles for itself: all seven generations take minutes.
build_release() {  # the Python of the peers, or nothing
  cmake --preset release -DQ4_WERROR=ON -DQ4_JOIN_TESTS=ON -DQ4_CUDA_ARCHITECTURES='75-virtual;90-real' -DQ4_TEST_PYTHON="$1"
  cmake --build --preset release
}

case "${1:-}" in
  '')
    mkdir -p build
    sh scripts/python_env.sh build/python-env >build/python-env.log 2>&1 &  # downloads while the compilers work
    beside=$!
    build_release "$PWD/build/python-env/bin/python"
    wait "$beside" || { tail -n 60 build/python-env.log; exit 1; }
    beside=
    ctest --preset release --no-tests=error ;;
  --quick)
    build_release ''
    ctest --preset release --no-tests=error ;;
  asan)
    sanitized asan all
    # An exit code of no tool: no report passes for a refusal that a test expects.
    export ASAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=exitcode=99
    ctest --preset asan -LE python --no-tests=error
    # A few seconds of changed inputs for each fuzz target, others for each commit.
    seed=$(git rev-list --count HEAD 2>/dev/null || echo 1)
    for program in fuzz_corpora fuzz_alloc_fail; do
      echo "$program, 3 seconds a target, seed $seed"
      build/asan/tests/fuzz/$program testdata/fuzz 3 "$seed" >build/asan/$program.log 2>&1 ||
        { tail -n 60 build/asan/$program.log; exit 1; }
      tail -n 1 build/asan/$program.log
    done ;;
  tsan)
    sanitized tsan libconvert_convert_test libconvert_engine_test load_test
    build/tsan/tests/libconvert/load/load_test >build/tsan/load_test.log 2>&1 &
    beside=$!
    build/tsan/tests/libconvert/libconvert_engine_test '[threads]'
    build/tsan/tests/libconvert/libconvert_convert_test '[threads]'
    wait "$beside" || { tail -n 200 build/tsan/load_test.log; exit 1; }
    beside=
    tail -n 3 build/tsan/load_test.log ;;
  *) echo "usage: test.sh [--quick | asan | tsan]" >&2; exit 1 ;;
esac
