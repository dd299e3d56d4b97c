# q4_wing(folder
#   DOORS   header...   what others may include; every other header of the folder is its own
#   USES    wing...     whose doors it may include
#   SOURCES file...
#   [LINKS  target...]  third-party libraries and others, privately)
# adds a static library of the files in that folder, named q4_<library>_<folder> after the directory of the calling CMakeLists.txt, such as
# q4_libconvert_verify. USES names folders beside it, or formats/<folder>, or kernels. scripts/check_includes.py reads these calls and
# holds every #include against them.
function(q4_wing folder)
  cmake_parse_arguments(PARSE_ARGV 1 wing "" "" "DOORS;USES;SOURCES;LINKS")
  cmake_path(GET CMAKE_CURRENT_SOURCE_DIR FILENAME library)
  set(target q4_${library}_${folder})
  list(TRANSFORM wing_SOURCES PREPEND "${folder}/")
  add_library(${target} STATIC ${wing_SOURCES})
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR})
  target_compile_features(${target} PUBLIC cxx_std_20)  # of whoever includes its headers
  set(uses)
  foreach(name IN LISTS wing_USES)
    if(name STREQUAL "kernels")
      list(APPEND uses q4_kernels)
    elseif(name MATCHES "^formats/(.+)$")
      list(APPEND uses q4_formats_${CMAKE_MATCH_1})
    else()
      list(APPEND uses q4_${library}_${name})
    endif()
  endforeach()
  target_link_libraries(${target} PUBLIC ${uses} PRIVATE ${wing_LINKS} q4_warnings q4_float_rules)
endfunction()
