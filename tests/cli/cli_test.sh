#!/bin/sh
# cli_test.sh TOOLS TESTDATA: the tools as a user meets them: exit codes, the one error line, what is left behind.
set -u
tools=$1
data=$2
PATH="$tools:$PATH"
. "$(dirname "$0")/../support/shell_test.sh"
checks=0

fail() {
  failures=$((failures + 1))
  echo "FAILED: $*"
  sed 's/^/  stdout: /' out
  sed 's/^/  stderr: /' err
}

# expect CODE PATTERN COMMAND...: the exit code; PATTERN is an extended regular expression that some line of stderr must match, or
# "" for a silent stderr. An error must be exactly one line of the documented grammar.
expect() {
  code=$1 pattern=$2
  shift 2
  checks=$((checks + 1))
  "$@" > out 2> err
  got=$?
  [ "$got" -eq "$code" ] || fail "exit code $got, expected $code: $*"
  if [ -z "$pattern" ]; then
    [ ! -s err ] || fail "stderr should be silent: $*"
  else
    grep -Eq -e "$pattern" err || fail "stderr lacks '$pattern': $*"
  fi
  if [ "$code" -ne 0 ] && [ "$code" -ne 6 ]; then
    [ "$(wc -l < err)" -eq 1 ] || fail "more than one error line: $*"
    grep -Eq '^q4(convert|inspect|verify|export): .*\[Q4-[0-9]{4}\]$' err || fail "error line breaks the grammar: $*"
  fi
}

# absent PATH...: nothing there, nor a partial file.
absent() {
  checks=$((checks + 1))
  for path in "$@"; do
    for left in "$path" "$path".*; do
      [ ! -e "$left" ] || fail "left behind: $left"
    done
  done
}

says() {
  checks=$((checks + 1))
  grep -Eq -e "$1" out || fail "stdout lacks '$1'"
}

# safetensors FILE JSON PAYLOAD: a file of that header, with the true length.
safetensors() {
  length=$(printf '%s' "$2" | wc -c)
  # shellcheck disable=SC2059  # octal escapes of the little-endian length
  { printf "$(printf '\\%03o\\%03o\\000\\000\\000\\000\\000\\000' $((length % 256)) $((length / 256)))"; printf '%s%s' "$2" "$3"; } > "$1"
}

src="$data/checkpoints/tiny_plain_src"

# ---- the main job
expect 0 '' q4convert "$src" -o tiny.q4 -q
expect 0 '' q4inspect tiny.q4
says 'nf4 b64 dq +14'
expect 0 '' q4inspect tiny.q4 --tensors --stats --hist --files --sort nmse
expect 0 '' q4inspect tiny.q4 --tensor model.layers.0.mlp.up_proj.weight --dump 0:8
expect 0 '' q4inspect "$src" --tensors
expect 0 '' q4inspect tiny.q4 --tree
says '0[.][.]1 x2'
if LC_ALL=C grep -q '[^ -~]' out; then fail 'a pipe gets colour or line drawing'; fi
expect 0 '' q4inspect tiny.q4 --color always
LC_ALL=C grep -q "$(printf '\033')" out || fail '--color always gives no colour'
expect 0 "" q4inspect "$src" --lint
expect 0 "" q4inspect tiny.q4 --lint
mkdir lint && head -c 100 "$src/model.safetensors" > lint/model.safetensors
expect 6 "" q4inspect lint --lint
says "file-malformed"
expect 0 '' q4verify tiny.q4 -q
expect 0 '' q4verify tiny.q4 --against "$src" --progress none
says 'passed'
expect 0 'AVX-512' q4export tiny.q4 --to bnb -o bnb --progress none
expect 0 '' q4export tiny.q4 --to safetensors --dtype fp32 -o plain --progress none
expect 0 '' q4convert plain -o again.q4 -q
for tool in q4convert q4inspect q4verify q4export; do
  expect 0 '' "$tool" --help
  says 'Exit codes'
  expect 0 '' "$tool" --version
  says "^$tool [0-9]+\.[0-9]+\.[0-9]+$"
  expect 1 'Q4-1001' "$tool"
  expect 1 'Q4-1001' "$tool" --no-such-flag
done

# ---- same bytes
expect 0 '' q4convert "$src" -o t1.q4 -q --threads 1 --max-memory 100MiB
expect 0 '' q4convert "$src" -o t7.q4 -q --threads 7 --device cpu
expect 0 '' env Q4_CPU_TARGET=scalar q4convert "$src" -o ts.q4 -q
expect 0 '' cmp tiny.q4 t1.q4
expect 0 '' cmp tiny.q4 t7.q4
expect 0 '' cmp tiny.q4 ts.q4
expect 0 '' q4inspect tiny.q4 --diff t7.q4

# ---- a container beside a checkpoint, in either order
expect 0 '' q4inspect tiny.q4 --diff "$src"
says 'SQNR'
expect 0 '' q4inspect "$src" --diff tiny.q4 --json
says '"document": *"q4verify-report"'
mkdir other && cp -r "$src"/. other && chmod -R u+w other
printf '\001' | dd of=other/model.safetensors bs=1 seek=$(($(wc -c < other/model.safetensors) - 2)) conv=notrunc 2> /dev/null
expect 6 'Q4-62[0-9][0-9]' q4inspect tiny.q4 --diff other
expect 0 '' q4inspect tiny.q4 --diff bnb
says '21 tensors equal, 0 renamed, 0 changed'
expect 0 '' q4inspect bnb --diff tiny.q4 --json
says '"document": *"q4inspect-diff"'
expect 0 '' q4inspect bnb --tensor model.layers.0.mlp.up_proj.weight --dump 0:8

# ---- dry run: exact size, nothing written
expect 0 '' q4convert "$src" -o dry.q4 --dry-run
says "^output +$(wc -c < tiny.q4 | sed -E ':a;s/([0-9])([0-9]{3})($|,)/\1,\2\3/;ta') bytes"
says 'output head'
absent dry.q4

# ---- usage (1)
expect 1 'exists; use --force' q4convert "$src" -o tiny.q4 -q
expect 0 '' q4convert "$src" -o tiny.q4 -q --force
cp "$src/model.safetensors" self.q4
expect 1 'one of the input files' q4convert self.q4 -o self.q4 --force -q
expect 0 '' cmp self.q4 "$src/model.safetensors"
expect 1 'Q4-1001' q4convert "$src" -o x.q4 --block-size 48
expect 1 'Q4-1001' q4convert "$src" -o x.q4 --max-memory lots
expect 1 'Q4-1001' q4convert "$src" -o x.q4 --compress lz4
expect 1 'not|regular|expression' q4convert "$src" -o x.q4 --exclude '['
expect 1 'max-memory' q4convert "$src" -o x.q4 --max-memory 1MiB
expect 1 'end in .q4' q4convert "$src" -o x.bin
mkdir directory.q4
expect 1 'regular file' q4convert "$src" -o directory.q4 --force
absent x.q4 x.bin

# ---- input and output (2)
expect 2 'no/such|cannot' q4convert no/such.safetensors -o x.q4
expect 2 'directory' q4convert "$src" -o no/such/x.q4
expect 2 'stdout' sh -c 'q4inspect tiny.q4 > /dev/full'
expect 2 'cannot|No such' q4verify no-such.q4
absent x.q4

# ---- bad input (3)
printf '' > empty.safetensors
expect 3 'empty.safetensors: .*small' q4convert empty.safetensors -o x.q4
safetensors hole.safetensors '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}' '12345678'
expect 3 'hole.safetensors' q4convert hole.safetensors -o x.q4
safetensors twice.safetensors '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}' '1'
expect 3 'duplicate' q4convert twice.safetensors -o x.q4
safetensors escape.safetensors "$(printf '{"\\u001b[31mred":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}')" '1234'
expect 3 'x1[bB]' q4convert escape.safetensors -o x.q4
checks=$((checks + 1))
if grep -q "$(printf '\033')" err; then fail "a control character reached the terminal"; fi
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n' > lfs.safetensors
expect 3 'LFS' q4convert lfs.safetensors -o x.q4
expect 3 'q4verify: ' q4verify "$src/model.safetensors"
printf '%s' '{"model.layers.0.q_proj.weight":0}' > index.json
expect 3 'index.json' q4convert index.json -o x.q4
safetensors nan.safetensors '{"a.q_proj.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}' "$(printf 'AAAABBBB\377\377\377\377CCCC')"
expect 3 "tensor 'a.q_proj.weight', element 2" q4convert nan.safetensors -o x.q4 --progress none
expect 0 'kept unquantized' q4convert nan.safetensors -o kept.q4 --progress none --on-nonfinite keep
expect 0 '' q4verify kept.q4 --against nan.safetensors -q
absent x.q4

# ---- devices: one that no machine has, by name (5 in a build without CUDA, else 4) and through auto, which goes on
no_device=4
q4convert "$src" -o x.q4 --device cuda:4096 2>&1 | grep -q 'no CUDA backend' && no_device=5
expect $no_device 'CUDA' q4convert "$src" -o x.q4 --device cuda:4096
expect 1 'auto, cpu, cuda' q4convert "$src" -o x.q4 --device cuda:0,0
absent x.q4
CUDA_VISIBLE_DEVICES='' expect 0 'using the CPU' q4convert "$src" -o auto.q4 --device auto --progress none
expect 0 '' q4convert "$src" -o cpu.q4 --device cpu --progress none -q
expect 0 '' cmp auto.q4 cpu.q4

# ---- effort without an encoder that has any
expect 1 'Q4-1960' q4convert "$src" -o x.q4 --effort 2
expect 1 'effort' q4convert "$src" -o x.q4 --encoder mse --effort 4
absent x.q4

# ---- a check failed (6)
expect 6 'NMSE' q4convert "$src" -o x.q4 --max-nmse 1e-9 --progress none
absent x.q4
expect 6 'model.layers' q4verify tiny.q4 --max-nmse 1e-9 --progress none
cp tiny.q4 flipped.q4
printf '\377' | dd of=flipped.q4 bs=1 seek=9000 conv=notrunc 2> /dev/null
printf '\0' | dd of=flipped.q4 bs=1 seek=9001 conv=notrunc 2> /dev/null
expect 6 'flipped.q4' q4verify flipped.q4 --progress none
head -c 20000 tiny.q4 > short.q4
expect 6 'short.q4' q4verify short.q4 --progress none
expect 6 'model.layers.0' q4verify tiny.q4 --against "$data/checkpoints/tiny_fp4_src" --progress none

# ---- options that change the result, and round trips through them
for options in '--type fp4' '--no-double-quant' '--block-size 4096' '--compress zstd' '--compress zstd:19 --no-double-quant' \
  '--keep-dtype fp32' '--include lm_head' '--exclude mlp' '--source-digest xxh3'; do
  # shellcheck disable=SC2086  # options are words
  expect 0 '' q4convert "$src" -o opt.q4 -q --force $options
  expect 0 '' q4verify opt.q4 --against "$src" -q
done
expect 0 '' q4convert "$src" -o parts.q4 -q --shard-size 200KB
expect 0 '' q4verify parts.q4.index.json --against "$src" -q
expect 0 '' q4inspect parts.q4.index.json
expect 0 '' q4verify parts-00001-of-*.q4 -q
printf '{"rules":[{"match":"down_proj","type":"fp4","block_size":128,"double_quant":false}]}' > recipe.json
expect 0 '' q4convert "$src" -o recipe.q4 -q --recipe recipe.json
expect 0 '' q4inspect recipe.q4
says 'fp4 b128 +2'

# ---- two converters, one output
mkfifo hold
sh -c 'exec 9> busy.q4.partial; flock 9; : > locked; cat hold' &
while [ ! -e locked ]; do sleep 0.1; done
expect 2 'in use' q4convert "$src" -o busy.q4 --progress none
: > hold
wait

echo "cli: $checks checks, $failures failures"
[ "$failures" -eq 0 ]
