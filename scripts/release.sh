#!/bin/sh
# release.sh [--twice] [DIR]: makes what is released of the commit that is checked out, into DIR (dist): wheel and sdist, packages for
# Debian, a tarball with CUDA, a static one for CPUs, an SBOM (CycloneDX), SHA256SUMS. docs/install.md says what each is for.
#   --twice   makes all of it two times, in two folders, the second time without a compiler cache, and says which files have the same
#             bytes. What does not ends with 1.
# Sources are what git has of that commit, whatever else lies in the folder; times in archives are the commit's, unless SOURCE_DATE_EPOCH
# says another. Q4_CUDA_ARCHITECTURES chooses the GPUs, all generations by default, and OFF leaves CUDA out. Q4_RELEASE_WHEEL=no leaves wheel
# and sdist out. Q4_RELEASE_FLAGS are compiler flags for a trial, instead of -O3 -DNDEBUG: with 75-virtual and -O1 it is what a build with
# those options has in the compiler cache. What is handed on has them not.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

twice=
if [ "${1:-}" = --twice ]; then
  twice=yes
  shift
fi
dist=${1:-dist}
mkdir -p "$dist"
dist=$(cd "$dist" && pwd)
root=$PWD
commit=$(git describe --always --abbrev=12 --match 'v[0-9]*')
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
callers=${LC_ALL:-}
callers_language() { if [ -n "$callers" ]; then LC_ALL=$callers; else unset LC_ALL; fi; }
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C.UTF-8
sh scripts/install_deps.sh
install_packages dpkg-dev file
sh scripts/static_archives.sh build/archives

case "${Q4_CUDA_ARCHITECTURES:-}" in
  '') gpus= name=cuda ;;
  OFF) gpus=-DQ4_ENABLE_CUDA=OFF name=cpu ;;
  *) gpus=-DQ4_CUDA_ARCHITECTURES=$Q4_CUDA_ARCHITECTURES name=cuda ;;
esac

# timed NAME COMMAND...: does it, and says how long it took.
timed() {
  what=$1
  shift
  begin=$(date +%s)
  "$@"
  echo "release: $what: $(($(date +%s) - begin)) s"
}

# build FOLDER OPTION...: what is released of the sources in FOLDER is built in FOLDER/build/release, as deep as in a clone, so that ccache
# finds what one compiled; it compares the language of messages, too, which is the caller's therefore. One folder for all ways of linking:
# they differ in that alone, but for CUDA.
build() {
  folder=$1
  shift
  (cd "$folder" && callers_language && use_compiler_cache && cmake --preset release -DQ4_JOIN=ON -DQ4_BUILD_TESTS=OFF -DQ4_PYTHON=OFF -DQ4_WERROR=ON \
    -DQ4_COMMIT="$commit" -DQ4_ARCHIVES="$root/build/archives" ${Q4_RELEASE_FLAGS:+"-DCMAKE_CXX_FLAGS_RELEASE=$Q4_RELEASE_FLAGS"} "$@" && cmake --build --preset release) >"$folder.log" 2>&1 ||
    { tail -n 60 "$folder.log"; exit 1; }
}

# tarball SOURCES OUTPUT NAME: the tools that were built there as NAME.tar.gz, with the same bytes for the same files.
tarball() {
  stage=$1/build/stage  # where git, and so the sdist, has nothing
  rm -rf "$stage"
  cmake --install "$1/build/release" --component tools --strip --prefix "$stage/q4-$version" >/dev/null
  tar -C "$stage" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf - "q4-$version" | gzip -9n >"$2/$3.tar.gz"
}

# wheel SOURCES OUTPUT: by the scripts of those sources, so that nothing else that lies here gets into the sdist.
wheel() {
  (cd "$1" && callers_language && Q4_COMMIT=$commit Q4_WHEEL_ENV="$root/build/wheel/env" sh scripts/wheel.sh "$2") >"$1.wheel.log" 2>&1 ||
    { tail -n 40 "$1.wheel.log"; exit 1; }
  # What is in the sdist and not in the commit, but for what the build backend writes.
  git ls-tree -r --name-only HEAD | sort >"$1.files"
  more=$(tar -tzf "$2/q4-$version.tar.gz" | sed 's,^[^/]*/,,' | grep -v -e '/$' -e '^PKG-INFO$' -e '^$' | sort | comm -23 - "$1.files" | head -n 5)
  [ -z "$more" ] || { echo "release: the sdist holds what the commit does not: $more" >&2; exit 1; }
}

release() {  # into this folder, by way of another
  out=$1 work=$2
  rm -rf "$work"
  mkdir -p "$work/source" "$out"
  git archive HEAD | tar -x -C "$work/source"
  version=$(sed -n 's/.*kQ4Version = "\(.*\)".*/\1/p' "$work/source/libconvert/base/version.h")
  packages=$work/source/build/release
  debian='-DQ4_DEBIAN=ON -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_LIBDIR=lib/x86_64-linux-gnu -DQ4_ZSH_COMPLETION_DIR=share/zsh/vendor-completions'
  plain='-DQ4_DEBIAN=OFF -DCMAKE_INSTALL_PREFIX=/usr/local -DCMAKE_INSTALL_LIBDIR=lib -DQ4_ZSH_COMPLETION_DIR=share/zsh/site-functions'
  for link in SHARED PACKAGE; do
    # shellcheck disable=SC2086  # lists of options
    timed "built, linked as $link" build "$work/source" -DQ4_LINK=$link $debian $gpus
    (cd "$packages" && cpack -G DEB -B "$work/deb") >"$work/cpack.log" 2>&1 || { tail -n 40 "$work/cpack.log"; exit 1; }
  done
  mv "$work"/deb/*.deb "$out"
  # shellcheck disable=SC2086  # lists of options
  timed "built, linked as ARCHIVES" build "$work/source" -DQ4_LINK=ARCHIVES $plain $gpus
  tarball "$work/source" "$out" "q4-$version-linux-x86_64-$name"
  # shellcheck disable=SC2086  # a list of options
  timed "built, linked as STATIC" build "$work/source" -DQ4_LINK=STATIC $plain -DQ4_ENABLE_CUDA=OFF
  tarball "$work/source" "$out" "q4-$version-linux-x86_64-static"
  if [ "${Q4_RELEASE_WHEEL:-yes}" != no ]; then timed "wheel and sdist, tried" wheel "$work/source" "$out"; fi
  python3 scripts/sbom.py "$version" "$commit" "$out"
  (cd "$out" && find . -type f ! -name SHA256SUMS | sed 's/^..//' | sort | xargs sha256sum >SHA256SUMS)
}

rm -f "$dist"/*.deb "$dist"/q4-*.tar.gz "$dist"/*.whl "$dist"/*.cdx.json "$dist/SHA256SUMS"
release "$dist" "$root/build/pack/one"
cat "$dist/SHA256SUMS"
[ -n "$twice" ] || exit 0
# What a cache hands out is equal to itself.
export CCACHE_DISABLE=1
rm -rf "$root/build/pack/again"
release "$root/build/pack/again" "$root/build/pack/two"
differ=0
for file in "$dist"/*; do
  if cmp -s "$file" "$root/build/pack/again/$(basename "$file")"; then
    echo "equal: $(basename "$file")"
  else
    echo "DIFFERS: $(basename "$file")"
    differ=1
  fi
done
exit "$differ"
