#!/bin/sh
# poison_test.sh TOOLS CHECKPOINTS: nothing but the input and constants reaches an output (docs/safety.md, promise 9). glibc fills
# memory that it hands out with one byte in one run and with another in the next: the outputs are equal by bytes.
set -u
tools=$1
checkpoints=$2
. "$(dirname "$0")/../support/shell_test.sh"
files=0

# poisoned BYTE NAME FLAGS: converts, exports both ways, reports, all into the folder BYTE/NAME.
poisoned() {
  mkdir -p "$1/$2"
  # shellcheck disable=SC2086  # flags are words
  MALLOC_PERTURB_=$1 "$tools/q4convert" "$checkpoints/tiny_plain_src" -o "$1/$2/m.q4" -q $3 || fail "$1 $2: q4convert exit code $?"
  container=$(ls "$1/$2"/m.q4.index.json 2>/dev/null || echo "$1/$2/m.q4")
  MALLOC_PERTURB_=$1 "$tools/q4export" "$container" -o "$1/$2/bnb" --to bnb -q || fail "$1 $2: q4export bnb exit code $?"
  MALLOC_PERTURB_=$1 "$tools/q4export" "$container" -o "$1/$2/full" --to safetensors -q || fail "$1 $2: q4export exit code $?"
}

for byte in 85 170; do
  poisoned "$byte" nested ""
  poisoned "$byte" fp4 "--type fp4 --no-double-quant --threads 1"
  poisoned "$byte" shards "--compress zstd --shard-size 300KB --block-size 256"
done
for file in $(cd 85 && find . -type f); do
  files=$((files + 1))
  cmp "85/$file" "170/$file" || fail "$file"
done
[ "$files" -eq "$(find 170 -type f | wc -l)" ] || fail "the runs wrote different files"
[ "$files" -ge 15 ] || fail "only $files files"

echo "poison: $files files compared, $failures failures"
[ "$failures" -eq 0 ]
