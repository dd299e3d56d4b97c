#!/bin/sh
# packages.sh DIST: installs what scripts/release.sh put into DIST, each into a root of its own, and does the main job there. As root, with
# the distribution's mirror; .ci/nightly packages runs it. Bare systems are kept in build/roots, and copied for each run.
#   the packages    on a bare Debian 12, then the loader's examples against libq4-dev, then removed
#   the CUDA tarball    on the same
#   the static tarball  on Debian 11, in a folder that holds nothing else, and as an image (deploy/Containerfile, built by buildah)
# All of them must write the same container.
set -eu
cd "$(dirname "$0")/../.."
. scripts/lib.sh
dist=$(cd "$1" && pwd)
source=$PWD
roots=$source/build/roots
[ "$(id -u)" -eq 0 ] || { echo "packages.sh: roots are entered as root" >&2; exit 1; }
install_packages debootstrap lintian buildah
mkdir -p "$roots"

work=$(mktemp -d "$roots/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)

# root NAME SUITE: a copy of a bare system, with a model in /model.
root() {
  if [ ! -f "$roots/$2.tar" ]; then
    debootstrap --variant=minbase "$2" "$work/bare" "$mirror" >"$roots/$2.log" 2>&1 || { tail -n 20 "$roots/$2.log"; exit 1; }
    tar -C "$work/bare" -cf "$roots/$2.tar.new" .
    mv "$roots/$2.tar.new" "$roots/$2.tar"
    rm -rf "$work/bare"
  fi
  mkdir "$work/$1"
  tar -C "$work/$1" -xf "$roots/$2.tar"
  if [ -f /etc/resolv.conf ]; then cp -L /etc/resolv.conf "$work/$1/etc/resolv.conf"; fi
  cp -r testdata/checkpoints/tiny_plain_src "$work/$1/model"
}
inside() {  # NAME COMMAND...
  folder=$work/$1
  shift
  env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive chroot "$folder" "$@"
}

# main_job NAME PREFIX: converts, verifies, inspects and exports in that root by the tools in PREFIX/bin; its container must be the one that
# all others made.
container=
main_job() {
  inside "$1" "$2/bin/q4convert" /model -o /made.q4 -q
  inside "$1" "$2/bin/q4verify" /made.q4 --against /model -q
  inside "$1" "$2/bin/q4inspect" /made.q4 >"$work/said"
  grep -q nf4 "$work/said"
  inside "$1" "$2/bin/q4export" /made.q4 --to bnb -o /exported -q
  [ -f "$work/$1/exported/model.safetensors" ]
  digest=$(sha256sum <"$work/$1/made.q4")
  [ "${container:-$digest}" = "$digest" ] || { echo "packages: $1 wrote other bytes" >&2; exit 1; }
  container=$digest
  echo "packages: $1: $(inside "$1" "$2/bin/q4convert" --version | head -n 2 | tr -s ' \n' ' ')"
}

lintian --fail-on error,warning "$dist"/*.deb

# ---- a bare Debian 12 and the packages ---------------------------------------------------------------------------------------------
root package bookworm
mkdir "$work/package/dist"
cp "$dist"/*.deb "$work/package/dist"
inside package sh -c 'dpkg -i /dist/q4_*.deb' >/dev/null  # nothing that it needs is missing
main_job package /usr
inside package sh -c 'apt-get -q update && apt-get install -y -q --no-install-recommends man-db' >"$work/apt.log" 2>&1 ||
  { tail -n 20 "$work/apt.log"; exit 1; }
for tool in q4convert q4inspect q4verify q4export; do
  inside package man "$tool" >"$work/said"
  grep -q "^ *$tool - " "$work/said"
done
inside package sh -c 'apt-get install -y -q --no-install-recommends /dist/lib*.deb g++ cmake ninja-build pkg-config python3-minimal libpython3-stdlib' \
  >"$work/apt.log" 2>&1 || { tail -n 20 "$work/apt.log"; exit 1; }
cp tests/install/examples.py docs/loading.md "$work/package/"
inside package python3 /examples.py /usr /loading.md /made.q4 model.layers.0.self_attn.q_proj.weight cmake c++
inside package dpkg -P q4 libq4-dev libq4-loader-c1 >/dev/null
left=$(find "$work/package/usr" -path '*q4*' ! -path '*/dist/*')
[ -z "$left" ] || { echo "packages: left behind: $left" >&2; exit 1; }

# ---- tarballs ------------------------------------------------------------------------------------------------------------------------
unpacked() {  # NAME ARCHIVE
  mkdir -p "$work/$1/q4"
  tar -C "$work/$1/q4" --strip-components=1 -xzf "$2"
}
for archive in "$dist"/q4-*-linux-x86_64-cuda.tar.gz "$dist"/q4-*-linux-x86_64-cpu.tar.gz; do
  [ -f "$archive" ] || continue
  root tarball bookworm
  unpacked tarball "$archive"
  main_job tarball /q4
done
static=$(ls "$dist"/q4-*-linux-x86_64-static.tar.gz)
root bullseye bullseye
unpacked bullseye "$static"
main_job bullseye /q4
mkdir "$work/nothing"
cp -r testdata/checkpoints/tiny_plain_src "$work/nothing/model"
unpacked nothing "$static"
main_job nothing /q4

image() { buildah --storage-driver vfs --root "$work/image/root" --runroot "$work/image/run" "$@"; }
version=$(basename "$static" | sed 's/^q4-\(.*\)-linux-.*/\1/')
mkdir -p "$work/image/made"
image bud --isolation chroot -t q4 --build-arg VERSION="$version" -f deploy/Containerfile "$dist" >"$work/image/log" 2>&1 ||
  { tail -n 20 "$work/image/log"; exit 1; }
made=$(image from --pull-never localhost/q4)
image run --isolation chroot -v "$source/testdata/checkpoints/tiny_plain_src:/work/model:ro" -v "$work/image/made:/work/made" "$made" \
  q4convert model -o made/model.q4 -q
[ "$(sha256sum <"$work/image/made/model.q4")" = "$container" ] || { echo "packages: the image wrote other bytes" >&2; exit 1; }
echo "packages: image: $(image run --isolation chroot "$made" q4convert --version | head -n 2 | tr -s ' \n' ' ')"
echo "packages: all wrote the same container, $(echo "$container" | cut -c1-12)"
