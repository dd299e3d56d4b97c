#!/bin/sh
# gpu_test.sh: builds q4 and runs its GPU tests and benchmarks, on a machine with a GPU and perhaps no network.
#   scripts/gpu_test.sh [build] [test] [sanitize] [bench]      default: build test
#   build      configures (with .gpu-packages/ if scripts/gpu_packages.sh has made it) and builds; all other steps do too
#   test       ctest -L gpu; fails if there is no GPU
#   sanitize   compute-sanitizer's memcheck, racecheck, initcheck and synccheck over the reduced kernel tests
#   bench      every benchmark named *_cuda_bench or cuda_*_bench; and bitsandbytes beside them if Python has it
#   Q4_GPU_BUILD      build folder                        (default build/gpu)
#   Q4_GPU_ARCH       CMake's name of the architecture    (default native)
#   Q4_GPU_TARGETS    what to build                       (default all)
set -eu
cd "$(dirname "$0")/.."
build=${Q4_GPU_BUILD:-build/gpu}
packages=$PWD/.gpu-packages/usr

build() {
  set -- -DQ4_WERROR=OFF
  if [ -d "$packages" ]; then
    libraries=$(echo "$packages"/lib/*-linux-gnu)
    export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export PKG_CONFIG_PATH="$libraries/pkgconfig" PKG_CONFIG_SYSROOT_DIR="${packages%/usr}"
    command -v pkg-config > /dev/null || set -- "$@" -DPKG_CONFIG_EXECUTABLE="$packages/bin/pkgconf"
    set -- "$@" -DCMAKE_PREFIX_PATH="$packages" -DOPENSSL_ROOT_DIR="$packages"
  fi
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DQ4_BUILD_BENCH=ON \
    -DQ4_CUDA_ARCHITECTURES="${Q4_GPU_ARCH:-native}" "$@"
  # shellcheck disable=SC2086  # a list of targets
  cmake --build "$build" --target ${Q4_GPU_TARGETS:-all}
}

run_tests() {
  nvidia-smi -L
  ctest --test-dir "$build" -L gpu --output-on-failure --no-tests=error
}

sanitize() {
  for tool in memcheck racecheck initcheck synccheck; do
    echo "compute-sanitizer $tool"
    Q4_GPU_TEST=reduced compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/tests/kernels/cuda_kernels_test"
  done
}

bench() {
  for program in "$build"/bench/cuda_*_bench "$build"/bench/*_cuda_bench; do
    if [ -x "$program" ]; then "$program"; fi
  done
  if python3 -c 'import bitsandbytes, torch; assert torch.cuda.is_available()' 2> /dev/null; then
    python3 bench/bitsandbytes_cuda_bench.py
  else
    echo "SKIP bitsandbytes: not installed, or its PyTorch finds no GPU"
  fi
}

build
for step in ${*:-test}; do
  case $step in
    build) ;;
    test) run_tests ;;
    sanitize) sanitize ;;
    bench) bench ;;
    *) echo "usage: gpu_test.sh [build] [test] [sanitize] [bench]" >&2; exit 1 ;;
  esac
done
