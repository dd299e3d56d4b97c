#!/bin/sh
# static_archives.sh DIR: makes libfmt.a and libhwy.a in DIR, which Debian and Ubuntu have as shared libraries only: of the source packages
# of exactly the versions that are installed, with the distribution's patches. For Q4_LINK=ARCHIVES, PACKAGE and STATIC
# (cmake/q4_link.cmake). Idempotent; the same bytes wherever it runs.
set -eu
[ $# -eq 1 ] || { echo "usage: static_archives.sh DIR" >&2; exit 1; }
. "$(dirname "$0")/lib.sh"
install_packages dpkg-dev
mkdir -p "$1"
dir=$(cd "$1" && pwd)
versions=$(dpkg-query -W -f '${source:Package}=${source:Version}\n' libfmt-dev libhwy-dev)
if [ "$(cat "$dir/versions" 2>/dev/null)" = "$versions" ]; then exit 0; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Where this machine's packages come from, their sources do. Lists of its own: the machine's stay as they are.
mkdir -p "$work/lists/partial"
apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u >"$work/sources.list"
apt() {
  apt-get -q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists" \
    -o APT::Sandbox::User=root "$@"
}
apt update >"$work/log" 2>&1 || { tail -n 20 "$work/log"; exit 1; }
# shellcheck disable=SC2086  # a list of packages
(cd "$work" && apt source $versions) >"$work/log" 2>&1 || { tail -n 20 "$work/log"; exit 1; }

compile() {  # archive, include folder, sources...
  archive=$dir/$1 include=$2
  shift 2
  objects=
  for source; do
    object=$work/$(basename "$source").o
    c++ -std=c++17 -O2 -fPIC -ffunction-sections -ffile-prefix-map="$work"=. -I "$include" -c "$source" -o "$object"
    objects="$objects $object"
  done
  rm -f "$archive"
  # shellcheck disable=SC2086  # a list of files
  ar rcsD "$archive" $objects
}
fmt=$(echo "$work"/fmtlib-*) highway=$(echo "$work"/highway-*)
compile libfmt.a "$fmt/include" "$fmt/src/format.cc" "$fmt/src/os.cc"
compile libhwy.a "$highway" "$highway/hwy/targets.cc" "$highway/hwy/aligned_allocator.cc"
printf '%s\n' "$versions" >"$dir/versions"
