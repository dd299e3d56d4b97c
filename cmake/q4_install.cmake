# What `cmake --install` puts where, in three components; docs/install.md is its manual.
#   tools        the programs, their manual pages, completion, docs/, the judge script
#   loader       the shared loader for other languages
#   development  headers, the loader in C++ as one archive, find_package(q4), pkg-config
# `cmake --build BUILD --target uninstall` takes away what the last installation wrote.
include(CMakePackageConfigHelpers)
set(Q4_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/q4)

# ---- tools ----------------------------------------------------------------------------------------------------------------------------
if(Q4_BUILD_TOOLS)
  set(q4_programs q4convert q4inspect q4verify q4export)
  install(TARGETS ${q4_programs} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
  install(PROGRAMS scripts/convert_and_judge.sh DESTINATION ${CMAKE_INSTALL_DATADIR}/q4 COMPONENT tools)
  if(NOT Q4_DEBIAN)  # whose copyright file has it
    install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT tools)
  endif()

  # Completion: each program writes its own.
  set(q4_completion ${CMAKE_BINARY_DIR}/completion)
  foreach(shell_file IN ITEMS "bash:@" "zsh:_@" "fish:@.fish")
    string(REGEX MATCH "^([a-z]+):(.+)$" matched "${shell_file}")
    set(shell ${CMAKE_MATCH_1})
    set(pattern ${CMAKE_MATCH_2})
    file(MAKE_DIRECTORY ${q4_completion}/${shell})
    foreach(program IN LISTS q4_programs)
      string(REPLACE "@" "${program}" file "${pattern}")
      set(file ${q4_completion}/${shell}/${file})
      add_custom_command(OUTPUT ${file} COMMAND ${program} --completion ${shell} > ${file} DEPENDS ${program} VERBATIM)
      list(APPEND q4_generated ${file})
    endforeach()
  endforeach()
  # Debian keeps what packages bring apart from what its administrator installs.
  set(Q4_ZSH_COMPLETION_DIR ${CMAKE_INSTALL_DATADIR}/zsh/site-functions CACHE STRING "Where zsh looks for completion")
  install(DIRECTORY ${q4_completion}/bash/ DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions COMPONENT tools)
  install(DIRECTORY ${q4_completion}/zsh/ DESTINATION ${Q4_ZSH_COMPLETION_DIR} COMPONENT tools)
  install(DIRECTORY ${q4_completion}/fish/ DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d COMPONENT tools)

  # Manual pages, of docs/, and its pages without links to what is not installed. Without Python there are no manual pages, and the pages are
  # as they are.
  find_program(Q4_PYTHON3 python3)
  if(Q4_PYTHON3)
    set(q4_pages ${CMAKE_BINARY_DIR}/installed_docs)
    file(GLOB_RECURSE q4_page_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/*)
    add_custom_command(
      OUTPUT ${q4_pages}.stamp
      COMMAND ${Q4_PYTHON3} ${PROJECT_SOURCE_DIR}/scripts/installed_docs.py ${PROJECT_SOURCE_DIR} ${q4_pages}
      COMMAND ${CMAKE_COMMAND} -E touch ${q4_pages}.stamp
      DEPENDS scripts/installed_docs.py README.md CHANGELOG.md ${q4_page_sources}
      WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
      VERBATIM)
    list(APPEND q4_generated ${q4_pages}.stamp)
    install(DIRECTORY ${q4_pages}/ DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT tools)
    foreach(program IN LISTS q4_programs)
      set(page ${CMAKE_BINARY_DIR}/man/${program}.1.gz)
      add_custom_command(
        OUTPUT ${page}
        COMMAND ${Q4_PYTHON3} ${PROJECT_SOURCE_DIR}/scripts/gen_man.py ${PROJECT_SOURCE_DIR}/docs/${program}.md ${PROJECT_VERSION} ${page}
        DEPENDS ${PROJECT_SOURCE_DIR}/scripts/gen_man.py ${PROJECT_SOURCE_DIR}/docs/${program}.md
        VERBATIM)
      list(APPEND q4_generated ${page})
      install(FILES ${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT tools)
    endforeach()
  else()
    message(STATUS "Manual pages: not made, no python3 found")
    install(FILES README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT tools)
    install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT tools)
  endif()
  add_custom_target(q4_documents ALL DEPENDS ${q4_generated})
endif()

# ---- loader, development --------------------------------------------------------------------------------------------------------------
# cmake/q4_link.cmake says why of this link alone.
if(NOT Q4_LINK STREQUAL "SHARED")
  set_target_properties(q4_loader_c PROPERTIES EXCLUDE_FROM_ALL ON)
else()
  install(TARGETS q4_loader_c
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT loader NAMELINK_COMPONENT development)

  # All that the loader links: q4's own archives, and what they need beside them.
  function(q4_closure target own_result other_result)
    set(own)
    set(other)
    set(todo ${target})
    while(todo)
      list(POP_FRONT todo item)
      string(REGEX REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1" item "${item}")
      if(item IN_LIST own OR item IN_LIST other OR item MATCHES "^::@")
        continue()
      endif()
      if(NOT TARGET ${item} OR item MATCHES "::")
        list(APPEND other ${item})
        continue()
      endif()
      list(APPEND own ${item})
      get_target_property(type ${item} TYPE)
      set(links)
      get_target_property(links ${item} INTERFACE_LINK_LIBRARIES)
      if(links)
        list(APPEND todo ${links})
      endif()
    endwhile()
    set(${own_result} ${own} PARENT_SCOPE)
    set(${other_result} ${other} PARENT_SCOPE)
  endfunction()
  q4_closure(q4_libconvert_load own other)
  set(archives)
  foreach(item IN LISTS own)
    get_target_property(type ${item} TYPE)
    if(type STREQUAL "STATIC_LIBRARY")
      list(APPEND archives ${item})
    endif()
  endforeach()
  set(known absl::status absl::statusor nlohmann_json::nlohmann_json fmt::fmt PkgConfig::XXHASH PkgConfig::RE2 OpenSSL::Crypto
      zstd::libzstd_shared hwy::hwy Threads::Threads)
  foreach(item IN LISTS other)
    if(NOT item IN_LIST known)
      message(FATAL_ERROR "the loader links ${item}, which cmake/q4Config.cmake.in and cmake/q4.pc.in do not name")
    endif()
  endforeach()

  # One archive, so that who links it need not know the wings, nor have a CUDA toolkit: its runtime is in it as it is in the programs.
  set(loader_archive ${CMAKE_BINARY_DIR}/libq4_loader.a)
  list(TRANSFORM archives REPLACE "(.+)" "ADDLIB $<TARGET_FILE:\\1>" OUTPUT_VARIABLE script)
  if(Q4_HAS_CUDA)
    find_library(Q4_CUDART_STATIC cudart_static PATHS ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES} ${CMAKE_CUDA_HOST_IMPLICIT_LINK_DIRECTORIES}
                 REQUIRED)
    list(APPEND script "ADDLIB ${Q4_CUDART_STATIC}")
  endif()
  list(JOIN script "\n" script)
  file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/libq4_loader.mri CONTENT "CREATE libq4_loader.a\n${script}\nSAVE\nEND\n")
  add_custom_command(
    OUTPUT ${loader_archive}
    COMMAND ${CMAKE_COMMAND} -E rm -f ${loader_archive}
    COMMAND sh -c "'${CMAKE_AR}' -M < libq4_loader.mri"
    COMMAND ${CMAKE_RANLIB} -D ${loader_archive}
    DEPENDS ${archives} ${CMAKE_BINARY_DIR}/libq4_loader.mri
    WORKING_DIRECTORY ${CMAKE_BINARY_DIR}
    COMMENT "Joining the archives of the loader"
    VERBATIM)
  add_custom_target(q4_loader_archive ALL DEPENDS ${loader_archive})
  install(FILES ${loader_archive} DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)

  # The loader's headers and those that they include, as they lie here: below include/q4.
  set(headers)
  set(todo libconvert/load/fill.h libconvert/load/load.h libconvert/load/load_issues.h libconvert/load/memory.h libconvert/load/plan.h
      libconvert/load/q4_loader_c.h libconvert/load/slice.h formats/q4/reader.h formats/q4/shards.h)
  while(todo)
    list(POP_FRONT todo header)
    if(header IN_LIST headers OR NOT EXISTS ${PROJECT_SOURCE_DIR}/${header})
      continue()
    endif()
    list(APPEND headers ${header})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${header})
    file(STRINGS ${header} includes REGEX "^#include \"")
    list(TRANSFORM includes REPLACE "^#include \"([^\"]+)\".*$" "\\1")
    list(APPEND todo ${includes})
  endwhile()
  foreach(header IN LISTS headers)
    cmake_path(GET header PARENT_PATH folder)
    install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/q4/${folder} COMPONENT development)
  endforeach()

  configure_package_config_file(cmake/q4Config.cmake.in ${CMAKE_BINARY_DIR}/q4Config.cmake INSTALL_DESTINATION ${Q4_CMAKE_DIR}
    PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
  # Before 1.0 a minor version may change the interface in C++.
  write_basic_package_version_file(${CMAKE_BINARY_DIR}/q4ConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${CMAKE_BINARY_DIR}/q4Config.cmake ${CMAKE_BINARY_DIR}/q4ConfigVersion.cmake DESTINATION ${Q4_CMAKE_DIR}
          COMPONENT development)

  # The prefix is where the file lies, so that an installation may be moved.
  cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig OUTPUT_VARIABLE q4_up)
  set(q4_cuda_libs)
  if(Q4_HAS_CUDA)
    set(q4_cuda_libs " -ldl -lrt")
  endif()
  foreach(name IN ITEMS q4 q4_loader_c)
    configure_file(cmake/${name}.pc.in ${CMAKE_BINARY_DIR}/${name}.pc @ONLY)
    install(FILES ${CMAKE_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
  endforeach()
endif()

add_custom_target(uninstall COMMAND ${CMAKE_COMMAND} -DQ4_BUILD=${CMAKE_BINARY_DIR} -P ${PROJECT_SOURCE_DIR}/cmake/q4_uninstall.cmake VERBATIM)
