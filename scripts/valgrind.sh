#!/bin/sh
# valgrind.sh [TOOLS]: three small conversions, their verification and export under valgrind's memcheck; any use of memory that
# nobody wrote, any error of access and any leak of ours ends it with exit code 1. TOOLS (build/release/tools) is an unsanitized
# build. Needs valgrind. Takes minutes.
set -eu
cd "$(dirname "$0")/.."
tools=$(cd "${1:-build/release/tools}" && pwd)
checkpoint=$PWD/testdata/checkpoints/tiny_plain_src
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
runs=0

check() {
  runs=$((runs + 1))
  valgrind --quiet --error-exitcode=9 --exit-on-first-error=yes --leak-check=full --errors-for-leak-kinds=definite "$@" || {
    echo "FAILED: $*" >&2
    exit 1
  }
}

# all NAME FLAGS
all() {
  # shellcheck disable=SC2086  # flags are words
  check "$tools/q4convert" "$checkpoint" -o "$1.q4" -q $2
  container=$(ls "$1.q4.index.json" 2>/dev/null || echo "$1.q4")
  check "$tools/q4verify" "$container" --against "$checkpoint" -q
  check "$tools/q4export" "$container" -o "$1.bnb" --to bnb -q
  check "$tools/q4export" "$container" -o "$1.full" --to safetensors -q
}

all nested ""
all fp4 "--type fp4 --no-double-quant"
all shards "--compress zstd --shard-size 300KB"
echo "valgrind: $runs runs, 0 errors"
