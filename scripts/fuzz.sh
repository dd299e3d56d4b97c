#!/bin/sh
# fuzz.sh: builds the libFuzzer targets of tests/fuzz with Clang, ASan and UBSan, and runs them one after the other.
#   fuzz.sh [SECONDS [TARGET...]]     SECONDS for each target (10), the targets by name, such as q4_container (all)
# Starts from testdata/fuzz and from what earlier runs here found, which is kept in build/fuzz-corpus and reduced to what adds
# coverage after runs of a minute and more. Prints a table; exits 1 if anything was found, which is then in build/fuzz-findings.
# scripts/fuzz_campaign.py is for long runs on many cores. Needs Clang with its sanitizer runtime; installs it if it is missing.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

seconds=${1:-10}
[ $# -eq 0 ] || shift
case "$seconds" in
  ''|*[!0-9]*) echo "usage: fuzz.sh [SECONDS [TARGET...]]" >&2; exit 1 ;;
esac

sh scripts/install_deps.sh clang
use_compiler_cache
cmake --preset fuzz
cmake --build --preset fuzz
[ $# -gt 0 ] || set -- $(cd tests/fuzz && ls -- *_fuzz.cc | sed 's/_fuzz\.cc$//')

# What a single input may take: a claimed size that is believed shows as an allocation, a loop over it as time.
limits='-rss_limit_mb=1024 -malloc_limit_mb=256 -timeout=10'
findings=build/fuzz-findings
logs=build/fuzz-logs
mkdir -p "$findings" "$logs"

# The value of "stat::NAME: VALUE" in a log.
stat() { sed -n "s/^stat::$1: *//p" "$2" | tail -n 1; }

table=
failed=0
for target in "$@"; do
  corpus=build/fuzz-corpus/$target
  log=$logs/$target.log
  program=build/fuzz/tests/fuzz/${target}_fuzz
  python3 tests/fuzz/found_inputs.py unpack "testdata/fuzz/$target.found" "$corpus"
  dictionary=
  [ ! -f "tests/fuzz/$target.dict" ] || dictionary=-dict=tests/fuzz/$target.dict
  # libFuzzer's runtime is built without exceptions, and so are the copies of the standard library's templates that the linker takes
  # from it: they leak when an allocation fails. The test fuzz_alloc_fail looks for leaks.
  leaks=1
  [ "$target" != alloc_fail ] || leaks=0
  result=ok
  # shellcheck disable=SC2086  # lists of options
  ASAN_OPTIONS=detect_leaks=$leaks "$program" $limits $dictionary -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="$findings/$target-" \
    "$corpus" "testdata/fuzz/$target" >"$log" 2>&1 || result=FOUND
  if [ "$result" != ok ]; then
    failed=1
    tail -n 60 "$log"
  elif [ "$seconds" -ge 60 ]; then
    mkdir -p "$corpus.merged"
    "$program" -merge=1 "$corpus.merged" "$corpus" >>"$log" 2>&1
    rm -r "$corpus"
    mv "$corpus.merged" "$corpus"
  fi
  edges=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
  line=$(printf '%-16s %12s %10s %8s  %s' "$target" "$(stat number_of_executed_units "$log")" \
    "$(stat average_exec_per_sec "$log")" "$edges" "$result")
  echo "$line"
  table="$table$line
"
done

printf '\n%-16s %12s %10s %8s  %s\n%s' target executions 'per second' edges result "$table"
exit "$failed"
