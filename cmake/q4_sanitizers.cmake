# Q4_SANITIZE applies to every target, dependencies from packages excepted.
if(Q4_SANITIZE)
  add_compile_options(-fsanitize=${Q4_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${Q4_SANITIZE})
  # An index past the end of an array inside an object is none of AddressSanitizer's business: the library checks it.
  add_compile_definitions(_GLIBCXX_ASSERTIONS)
endif()

# libFuzzer is guided by the coverage that this records, also in code that is only linked to a fuzz target.
if(Q4_BUILD_FUZZERS)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "Q4_BUILD_FUZZERS needs Clang; use the preset fuzz")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
