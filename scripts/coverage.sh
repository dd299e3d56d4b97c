#!/bin/sh
# coverage.sh: how much of formats/ and libconvert/ the tests execute. Builds build/coverage (gcc, -O0, instrumented, no CUDA), runs
# the tests that read and write files, prints lines and branches of each folder and of each file of formats/, and the lines of formats/
# that nothing executed. Exits 1 when a test fails or when formats/ is below 97 % of lines. Needs gcov, which comes with gcc.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
build=build/coverage

sh scripts/install_deps.sh
use_compiler_cache
cmake --preset coverage
cmake --build --preset coverage --target formats_test libconvert_tests fuzz_corpora fuzz_alloc_fail q4convert q4inspect q4verify q4export

# New counts would be added to those of an earlier run.
find "$build" -name '*.gcda' -delete
ctest --preset coverage --no-tests=error -R '^(formats|libconvert_.*|fuzz_.*|cli|export_roundtrip|hostile)$'

python3 scripts/coverage_table.py "$build" --least 97
