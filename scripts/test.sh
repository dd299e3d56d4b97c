#!/bin/sh
# test.sh: installs what is missing, builds and runs all tests.
#   test.sh           release build, Python environment with the real peers, every test
#   test.sh --quick   without the Python environment: tests that need it are skipped, and say so
#   test.sh asan      under AddressSanitizer and UndefinedBehaviorSanitizer: what does not need Python packages or a browser
#   test.sh tsan      under ThreadSanitizer: what runs several threads
# Under sanitizers, loops over alike runs take longer steps; Q4_EXHAUSTIVE=1 in the environment takes all of them (.ci/nightly).
# Temporary files go into memory where that has room, but for those of the entries that are about a disk; TMPDIR says otherwise.
# CUDA code is compiled where nvcc is found; tests on a GPU are skipped, and say so, where there is none.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

sh scripts/install_deps.sh

beside=  # a process that runs beside this one, and ends with it at the latest
trap '[ -z "$beside" ] || kill "$beside" 2>/dev/null || true' EXIT

sanitized() {  # preset, targets...
  preset=$1
  shift
  use_compiler_cache
  cmake --preset "$preset" -DQ4_ENABLE_CUDA=OFF
  cmake --build --preset "$preset" --target "$@"
}

release() {  # the Python of the peers, or nothing
  configure_release -DQ4_WERROR=ON -DQ4_TEST_PYTHON="$1"
  cmake --build --preset release
}

run_tests() {  # arguments of ctest
  use_memory_for_files
  ctest --no-tests=error "$@"
}

case "${1:-}" in
  '')
    mkdir -p build
    sh scripts/python_env.sh build/python-env build >build/python-env.log 2>&1 || { tail -n 60 build/python-env.log; exit 1; }
    sh scripts/python_env.sh build/python-env >>build/python-env.log 2>&1 &  # downloads while the compilers work
    beside=$!
    release "$PWD/build/python-env/bin/python"
    wait "$beside" || { tail -n 60 build/python-env.log; exit 1; }
    beside=
    run_tests --preset release ;;
  --quick)
    release ''
    run_tests --preset release ;;
  asan)
    sanitized asan all
    # An exit code of no tool: no report passes for a refusal that a test expects.
    export ASAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=exitcode=99
    # Each fuzz target also gets changed inputs for that long, others for each commit.
    Q4_FUZZ_SEED=$(git rev-list --count HEAD 2>/dev/null || echo 1)
    export Q4_FUZZ_SEED Q4_FUZZ_SECONDS=3
    echo "fuzz targets: $Q4_FUZZ_SECONDS seconds each, seed $Q4_FUZZ_SEED"
    run_tests --preset asan -LE '^(python|browser|tree|files)$' ;;
  tsan)
    sanitized tsan libconvert_convert_test libconvert_engine_test load_test
    use_memory_for_files
    build/tsan/tests/libconvert/load/load_test >build/tsan/load_test.log 2>&1 &
    beside=$!
    build/tsan/tests/libconvert/libconvert_engine_test '[threads]'
    build/tsan/tests/libconvert/libconvert_convert_test '[threads]'
    wait "$beside" || { tail -n 200 build/tsan/load_test.log; exit 1; }
    beside=
    tail -n 3 build/tsan/load_test.log ;;
  *) echo "usage: test.sh [--quick | asan | tsan]" >&2; exit 1 ;;
esac
