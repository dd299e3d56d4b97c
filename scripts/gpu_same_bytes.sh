#!/bin/sh
# gpu_same_bytes.sh TOOLS MODEL...: converts each model on the CPU and on the GPUs, with every type and with double quantization on
# and off, and compares the containers. Prints their SHA-256; fails when two differ.
set -eu
if [ $# -lt 2 ]; then
  echo "usage: gpu_same_bytes.sh TOOLS MODEL..." >&2
  exit 1
fi
tools=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
compared=0
for model in "$@"; do
  for options in '--type nf4 --double-quant' '--type nf4 --no-double-quant' '--type fp4 --double-quant' '--type fp4 --no-double-quant --block-size 128' \
    '--encoder mse --type nf4 --double-quant' '--encoder mse --type nf4 --no-double-quant --effort 1' '--encoder mse --type fp4 --double-quant'; do
    for device in cpu cuda; do
      # shellcheck disable=SC2086  # a list of options
      "$tools/q4convert" "$model" -o "$work/$device.q4" --force --device "$device" $options -q
    done
    if ! cmp "$work/cpu.q4" "$work/cuda.q4"; then
      echo "DIFFERENT: $model $options" >&2
      exit 1
    fi
    echo "$(sha256sum < "$work/cuda.q4" | cut -c1-64) $(basename "$model") $options"
    compared=$((compared + 1))
  done
done
echo "$compared pairs of containers, equal by bytes"
