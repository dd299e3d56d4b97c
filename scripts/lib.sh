# lib.sh: what scripts share. They read it with `. scripts/lib.sh`.

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# install_packages NAME...: those packages of the distribution that are missing. Returns at once when all are there. Another that installs
# packages at the time, such as the upgrades that a machine makes by itself, is waited for.
install_packages() {
  missing=
  for package in "$@"; do
    if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
      missing="$missing $package"
    fi
  done
  [ -n "$missing" ] || return 0
  echo "installing:$missing"
  as_root apt-get update -q
  # shellcheck disable=SC2086  # a list of package names
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -q --no-install-recommends $missing
}

# use_compiler_cache: a folder that CMake configures from now on compiles through ccache, where that is installed. Folders of the machine
# are left out of what ccache compares, so that what one clone compiled serves the next, wherever it lies.
use_compiler_cache() {
  if command -v ccache >/dev/null; then
    for language in C CXX CUDA; do
      export "CMAKE_${language}_COMPILER_LAUNCHER=ccache"
    done
    export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1
  fi
}

# configure_release [OPTION...]: build/release as scripts want it, made once and whole: files joined, and of CUDA code only PTX, which
# every GPU's driver compiles for itself. `cmake --fresh --preset release` is for those who go on working with it.
configure_release() {
  use_compiler_cache
  cmake --preset release -DQ4_JOIN=ON -DQ4_CUDA_ARCHITECTURES=75-virtual "$@"
}

# use_memory_for_files: temporary files of tests go into memory, where that has room and lets programs be loaded from it. Tests write
# thousands of small files durably; on a disk they wait for each, and the kernel works twice as long. A TMPDIR that is set stays.
use_memory_for_files() {
  shared=/dev/shm
  [ -z "${TMPDIR:-}" ] && [ -d "$shared" ] && [ -w "$shared" ] || return 0
  [ "$(df -Pk "$shared" | awk 'NR == 2 { print $4 }')" -ge 4194304 ] || return 0
  [ "$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)" -ge 8388608 ] || return 0
  probe=$(mktemp "$shared/q4-probe.XXXXXX")
  printf '#!/bin/sh\n' >"$probe"
  chmod 700 "$probe"
  if "$probe" 2>/dev/null; then export TMPDIR="$shared"; fi
  rm -f "$probe"
}

# pack_programs ARCHIVE PROGRAM...: an archive for a machine that lacks what was installed here: programs/, without symbols, and in
# libraries/ what they need beside glibc, which has to be as new there as here.
pack_programs() {
  archive=$1
  shift
  packed=$(mktemp -d)
  mkdir "$packed/programs" "$packed/libraries"
  for program in "$@"; do
    strip -o "$packed/programs/$(basename "$program")" "$program"
    # A process has one glibc, that of its machine.
    ldd "$program" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | grep -v '/lib\(c\|m\|dl\|rt\|pthread\|resolv\)\.so' |
      while read -r library; do cp -L "$library" "$packed/libraries/"; done
  done
  strip "$packed"/libraries/*
  tar -C "$packed" -cJf "$archive" programs libraries
  rm -r "$packed"
}
