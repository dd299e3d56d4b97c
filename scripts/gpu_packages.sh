#!/bin/sh
# gpu_packages.sh: unpacks what q4 builds with into .gpu-packages/ (not in git), for a GPU machine that has a compiler,
# CMake, ninja and Catch2 but no network: carry that folder there with the tree; scripts/gpu_test.sh finds it. Run it on
# Debian or Ubuntu with network, of any release not newer than the GPU machine's. Nothing is installed.
set -eu
cd "$(dirname "$0")/.."

packages='libabsl-dev nlohmann-json3-dev libzstd-dev libhwy-dev libxxhash-dev libssl-dev libcli11-dev libfmt-dev libre2-dev
libbenchmark-dev libcurl4-openssl-dev pkgconf pkgconf-bin'
folder=.gpu-packages

# A development package brings headers; the shared library is a package that it depends on.
# shellcheck disable=SC2086  # a list of package names
libraries=$(apt-cache depends $packages | sed -n 's/^ *Depends: \(lib[a-z0-9+.-]*\)$/\1/p' |
  grep -v -e '-dev$' -e '^libc6' -e '^libstdc' | sort -u)

rm -rf "$folder"
mkdir -p "$folder/deb"
# shellcheck disable=SC2086  # lists of package names
(cd "$folder/deb" && apt-get download -q $packages $libraries)
for file in "$folder"/deb/*.deb; do dpkg -x "$file" "$folder"; done
rm -rf "$folder/deb"

# Headers that sit in the multiarch folder, where CMake does not look below a prefix.
for multiarch in "$folder"/usr/include/*-linux-gnu; do
  [ -d "$multiarch" ] || continue
  cp -r "$multiarch"/. "$folder/usr/include/"
  rm -rf "$multiarch"
done
# Not needed: documentation, and static libraries that no CMake package names.
rm -rf "$folder/usr/share/doc" "$folder/usr/share/man" "$folder/usr/lib/ssl" "$folder/etc"
find "$folder" -name '*.a' | while read -r archive; do
  grep -rqF "$(basename "$archive")" "$folder/usr/lib" --include='*.cmake' || rm "$archive"
done
du -sh "$folder"
