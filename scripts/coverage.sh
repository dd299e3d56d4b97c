#!/bin/sh
# coverage.sh: how much of formats/ and libconvert/ the tests execute. Builds build/coverage (gcc, -O0, instrumented, no CUDA), runs
# the tests that read and write files, prints lines and branches of each folder and of each file of formats/, and the lines of formats/
# that nothing executed. Exits 1 when a test fails or when formats/ is below 95 % of lines. Branches that only an
# exception takes are not counted: any call may have one.
# Needs gcov, which comes with gcc, and PyPI for gcovr.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
build=build/coverage

sh scripts/install_deps.sh
use_compiler_cache
cmake --preset coverage
cmake --build --preset coverage --target formats_test libconvert_tests fuzz_corpora fuzz_alloc_fail q4convert q4inspect q4verify q4export

if [ ! -x "$build/venv/bin/gcovr" ]; then
  python3 -m venv "$build/venv"
  "$build/venv/bin/python" -m pip --disable-pip-version-check --quiet install gcovr==8.8
fi

# New counts would be added to those of an earlier run.
find "$build" -name '*.gcda' -delete
ctest --preset coverage --no-tests=error -R '^(formats|libconvert_.*|fuzz_.*|cli|export_roundtrip|hostile)$'

# Threads count without locks, so that a count may come out negative; the line was executed all the same.
"$build/venv/bin/gcovr" --root . --object-directory "$build" "$build" --filter 'formats/' --filter 'libconvert/' -j 2 \
  --exclude-throw-branches --gcov-ignore-parse-errors=negative_hits.warn_once_per_file --json "$build/coverage.json"
python3 scripts/coverage_table.py "$build/coverage.json" --least 95
