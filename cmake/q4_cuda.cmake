# CUDA: sets Q4_HAS_CUDA, and with it the language, its flags and the runtime library. Off without a compiler, with one
# line that says so. A GPU is not needed to build, nor to run anything but the tests of label "gpu".
set(Q4_HAS_CUDA OFF)
if(Q4_ENABLE_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(Q4_HAS_CUDA ON)
  else()
    message(STATUS "CUDA backend: not built, no CUDA compiler found (set CUDACXX or CMAKE_CUDA_COMPILER)")
  endif()
else()
  message(STATUS "CUDA backend: not built, Q4_ENABLE_CUDA is OFF")
endif()

if(Q4_HAS_CUDA)
  # Machine code for each generation; the last one also as PTX, which newer devices compile when they load it.
  set(Q4_CUDA_ARCHITECTURES "75-real;80-real;86-real;89-real;90-real;100-real;120" CACHE STRING
      "CUDA architectures; one is much faster to build, e.g. 90-real")
  set(CMAKE_CUDA_ARCHITECTURES "${Q4_CUDA_ARCHITECTURES}")
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)  # so that the programs start on machines without CUDA
  enable_language(CUDA)
  if("${CMAKE_CUDA_FLAGS} ${CMAKE_CUDA_FLAGS_RELEASE}" MATCHES
     "use_fast_math|-ftz=true|-fmad=true|-prec-(div|sqrt)=false")
    message(FATAL_ERROR
            "the CUDA flags hold '${CMAKE_MATCH_0}', which would change the bytes q4 writes (docs/numerics.md)")
  endif()
  message(STATUS "CUDA backend: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")

  # numerics.md Q10.1. Every target with device code links this.
  add_library(q4_cuda_rules INTERFACE)
  target_compile_options(q4_cuda_rules INTERFACE
    "$<$<COMPILE_LANGUAGE:CUDA>:--fmad=false;--ftz=false;--prec-div=true;--prec-sqrt=true>"
    "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-Xcompiler=-Wall,-Wextra,-ffp-contract=off>")
endif()
