#!/bin/sh
# Builds and runs the GPU tests and benchmarks on a machine with a GPU and no network. Needs nvcc, g++ and Catch2 (v2 or v3) only:
# the CUDA kernels and the scalar reference they are compared with use no other library.
#   scripts/gpu_test.sh [test] [sanitize] [bench]      default: all three
#   Q4_GPU_BUILD   build folder              (default build-gpu)
#   Q4_GPU_ARCH    nvcc -arch                (default native)
set -eu
cd "$(dirname "$0")/.."
build=${Q4_GPU_BUILD:-build-gpu}
arch=${Q4_GPU_ARCH:-native}
steps=${*:-test sanitize bench}
mkdir -p "$build"

cxx="g++ -std=c++20 -O2 -Wall -Wextra -ffp-contract=off -I."
nvcc="nvcc -std=c++20 -O3 -arch=$arch --expt-relaxed-constexpr --fmad=false --ftz=false --prec-div=true --prec-sqrt=true -lineinfo -I."

# name of the object: flattened path
object() { echo "$build/$(echo "$1" | tr '/.' '__').o"; }

kernels="kernels/cuda_runtime.cu kernels/quantize_cuda.cu kernels/scales_cuda.cu kernels/dequantize_cuda.cu kernels/error_stats_cuda.cu
         kernels/codebook.cc kernels/quantize_scalar.cc kernels/dequantize_scalar.cc kernels/scales_scalar.cc
         kernels/error_stats_scalar.cc kernels/convert_scalar.cc"
tests="tests/kernels/cuda_test_main.cc tests/kernels/cuda_kernels_test.cc tests/kernels/cuda_search_test.cu"
bench="bench/cuda_kernels_bench.cu"

pids=""
for source in $kernels $tests $bench; do
  case $source in
    *.cu) $nvcc -c "$source" -o "$(object "$source")" & ;;
    *)    $cxx -c "$source" -o "$(object "$source")" & ;;
  esac
  pids="$pids $!"
done
for pid in $pids; do wait "$pid"; done
objects() { for source in "$@"; do object "$source"; done; }
catch=""
for library in -lCatch2; do
  if echo 'int main(){}' | g++ -x c++ - $library -o "$build/probe" 2>/dev/null; then catch=$library; fi
done
# shellcheck disable=SC2046
nvcc -arch="$arch" -cudart static $(objects $kernels $tests) $catch -o "$build/cuda_kernels_test"
# shellcheck disable=SC2046
nvcc -arch="$arch" -cudart static $(objects $kernels $bench) -o "$build/cuda_kernels_bench"

for step in $steps; do
  case $step in
    test)
      "$build/cuda_kernels_test" ;;
    sanitize)
      for tool in memcheck racecheck initcheck synccheck; do
        echo "compute-sanitizer $tool"
        Q4_GPU_TEST=reduced compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/cuda_kernels_test"
      done ;;
    bench)
      "$build/cuda_kernels_bench" ;;
    *)
      echo "unknown step $step" >&2; exit 2 ;;
  esac
done
