# q4_float_rules: numerics.md Q10.1. Every target of C++ links this (scripts/check_float_rules.py), whether it calculates or not: an inline
# function of a header is compiled in each file that includes it, and the linker takes any one of the copies. On AArch64 the compiler fuses
# from -O2 on unless it is told not to, on x86-64 where a target has FMA.
# Highway's AVX2 and AVX-512 targets enable FMA, so without -ffp-contract=off a compiler may fuse Mul and Add.
foreach(q4_flags IN ITEMS CMAKE_CXX_FLAGS CMAKE_CXX_FLAGS_RELEASE CMAKE_CXX_FLAGS_RELWITHDEBINFO CMAKE_CXX_FLAGS_DEBUG)
  if("${${q4_flags}}" MATCHES "-ffast-math|-Ofast|-funsafe-math-optimizations|-march=native|-ffp-contract=(fast|on)")
    message(FATAL_ERROR "${q4_flags} holds '${CMAKE_MATCH_0}', which would change the bytes q4 writes (docs/numerics.md)")
  endif()
endforeach()
add_library(q4_float_rules INTERFACE)
target_compile_options(q4_float_rules INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off;-fno-fast-math>)
