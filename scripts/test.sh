#!/bin/sh
# test.sh: installs what is missing, builds and runs all tests. Continuous integration runs the same (.ci/run).
#   test.sh           release build, Python environment with the real peers, every test
#   test.sh --quick   without the Python environment: tests that need it are skipped, and say so
#   test.sh asan|tsan the same tests that need no Python under sanitizers
set -eu
cd "$(dirname "$0")/.."

preset=release
python=
case "${1:-}" in
  '') sh scripts/python_env.sh build/python-env && python="$PWD/build/python-env/bin/python" ;;
  --quick) ;;
  asan | tsan) preset=$1 ;;
  *) echo "usage: test.sh [--quick | asan | tsan]" >&2; exit 1 ;;
esac

sh scripts/install_deps.sh
cmake --preset "$preset" -DQ4_WERROR=ON -DQ4_TEST_PYTHON="$python"
cmake --build --preset "$preset"
ctest --preset "$preset" --no-tests=error
