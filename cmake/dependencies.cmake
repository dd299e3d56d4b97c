# Every third-party library, found and never vendored. docs/architecture.md says which one file reaches each.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(absl REQUIRED)            # status, strings, containers, span             Apache-2.0
find_package(fmt REQUIRED)             # text formatting                               MIT
find_package(nlohmann_json REQUIRED)   # SAX parser behind formats/base/strict_json    MIT
find_package(OpenSSL REQUIRED COMPONENTS Crypto)  # SHA-256, formats/base/digest       Apache-2.0
find_package(hwy REQUIRED)             # SIMD with run-time dispatch, kernels/*_simd   Apache-2.0
find_package(zstd REQUIRED)            # formats/base/zstd_codec                       BSD-3-Clause
find_package(PkgConfig REQUIRED)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash>=0.8.0)  # digest          BSD-2-Clause
pkg_check_modules(RE2 REQUIRED IMPORTED_TARGET re2)  # libconvert/base/name_pattern        BSD-3-Clause
# Its header only, and optional: formats/net/http.cc loads the library when a URL is read         curl (MIT-like)
# pkg_check_modules(CURL libcurl>=7.85) stands in formats/CMakeLists.txt.
if(Q4_BUILD_TOOLS OR Q4_BUILD_FUZZERS)
  find_package(CLI11 REQUIRED)         # tools/options                                 BSD-3-Clause
endif()
if(Q4_BUILD_TESTS)
  find_package(Catch2 REQUIRED)        # v2 or v3                                      BSL-1.0
endif()
if(Q4_BUILD_BENCH)
  find_package(benchmark REQUIRED)     # Google Benchmark                              Apache-2.0
endif()
