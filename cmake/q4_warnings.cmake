# q4_warnings: the warning set of every q4 target.
add_library(q4_warnings INTERFACE)
target_compile_options(q4_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wconversion;-Wdouble-promotion;-Wnon-virtual-dtor>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 and 13 report overlapping copies inside std::string's operator+ that cannot happen (GCC bug 105651).
  target_compile_options(q4_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(Q4_WERROR)
  target_compile_options(q4_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
