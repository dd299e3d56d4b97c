# q4_float_rules: numerics.md Q10.1. Every target that does floating-point arithmetic links this.
# Highway's AVX2 and AVX-512 targets enable FMA, so without -ffp-contract=off a compiler may fuse Mul and Add.
foreach(q4_flags IN ITEMS CMAKE_CXX_FLAGS CMAKE_CXX_FLAGS_RELEASE CMAKE_CXX_FLAGS_RELWITHDEBINFO CMAKE_CXX_FLAGS_DEBUG)
  if("${${q4_flags}}" MATCHES "-ffast-math|-Ofast|-funsafe-math-optimizations|-march=native|-ffp-contract=(fast|on)")
    message(FATAL_ERROR "${q4_flags} holds '${CMAKE_MATCH_0}', which would change the bytes q4 writes (docs/numerics.md)")
  endif()
endforeach()
add_library(q4_float_rules INTERFACE)
target_compile_options(q4_float_rules INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off;-fno-fast-math>)
