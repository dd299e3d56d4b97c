#!/bin/sh
# export_roundtrip.sh TOOLS CHECKPOINTS: checkpoint -> q4convert -> q4export gives, byte for byte, the directory that
# transformers saved for the same settings (CHECKPOINTS/README.md). Double-quantized scales differ by design; those are
# compared in tests/libconvert/export/export_test.cc.
set -u
tools=$1
checkpoints=$2
. "$(dirname "$0")/../support/shell_test.sh"
files=0

# roundtrip NAME CONVERT-FLAGS EXPORT-FLAGS EXPORTED-FILES
roundtrip() {
  name=$1
  # shellcheck disable=SC2086  # flags are words
  "$tools/q4convert" "$checkpoints/${name}_src" -o "$name.q4" -q $2 || fail "$name: q4convert exit code $?"
  # shellcheck disable=SC2086
  "$tools/q4export" "$name.q4" -o "$name" --to bnb --no-card -q $3 || fail "$name: q4export exit code $?"
  for file in $4; do
    files=$((files + 1))
    cmp "$name/$file" "$checkpoints/$name/$file" || fail "$name/$file"
  done
  # Beside the files of transformers, the export's own record.
  [ -e "$name/q4_export.json" ] || fail "$name has no record"
  [ "$(ls -A "$name" | wc -l)" -eq "$(($(ls -A "$checkpoints/$name" | wc -l) + 1))" ] || fail "$name holds other files"
  [ ! -e "$name.partial" ] || fail "$name.partial is left"
}

all="model.safetensors config.json generation_config.json"
# The sources are bfloat16, which is then what their exports compute in; BitsAndBytesConfig by itself says float32.
roundtrip tiny_plain "--no-double-quant" "" "$all"
roundtrip tiny_fp4 "--type fp4 --no-double-quant" "--compute-dtype float32" "$all"
roundtrip tiny_bf16st "--no-double-quant --compress zstd" "--quant-storage bfloat16" "$all"
roundtrip tiny_bnb "" "--compute-dtype float32" "config.json generation_config.json"

echo "export_roundtrip: $files files compared, $failures failures"
[ "$failures" -eq 0 ]
