# Packages: `cpack -G DEB` in a build of CMAKE_INSTALL_PREFIX=/usr and Q4_DEBIAN=ON makes q4 where Q4_LINK=PACKAGE, and libq4-loader-c1 and
# libq4-dev where it is SHARED (scripts/release.sh): those are for a distribution that has the shared libraries.
set(Q4_MAINTAINER "The q4 authors <q4@q4.invalid>" CACHE STRING "Who packages: name and address")
set(CPACK_PACKAGE_NAME q4)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "${Q4_MAINTAINER}")
if(Q4_LINK STREQUAL "SHARED")
  set(CPACK_COMPONENTS_ALL loader development)
else()
  set(CPACK_COMPONENTS_ALL tools)
endif()
set(CPACK_STRIP_FILES ON)
set(CPACK_THREADS 1)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)

set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME q4)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION science)
set(CPACK_DEBIAN_TOOLS_DESCRIPTION "converts models to 4 bits, once, into one sealed file
q4convert quantizes a checkpoint (safetensors, PyTorch, GGUF) to NF4 or FP4
and writes one container in which every byte is covered by a digest.
q4inspect says what is in it, q4verify whether it is intact and how large its
error is, and q4export hands it on to transformers, vLLM and others.")
set(CPACK_DEBIAN_TOOLS_PACKAGE_RECOMMENDS libcurl4)  # loaded where a URL is read
set(CPACK_DEBIAN_LOADER_PACKAGE_NAME libq4-loader-c1)
set(CPACK_DEBIAN_LOADER_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LOADER_DESCRIPTION "loads 4-bit models (.q4) into memory, from any language
A shared library with an interface in C: brings the tensors of a .q4 container
into the memory of a GPU or of the process, checked on the way.")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libq4-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SHLIBDEPS OFF)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
  "libq4-loader-c1 (= ${PROJECT_VERSION}), libabsl-dev, libfmt-dev, libhwy-dev, libssl-dev, libxxhash-dev, libzstd-dev")
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION "loads 4-bit models (.q4) into memory, for programs in C++ and C
Headers, the loader in C++ as an archive, find_package(q4) and pkg-config.")

# What Debian wants in the documentation of each package. Dates are those of SOURCE_DATE_EPOCH, where that is set.
option(Q4_DEBIAN "Install what packages of Debian have besides: copyright, changelog" OFF)
if(Q4_DEBIAN AND Q4_BUILD_TOOLS)
  string(TIMESTAMP now "%a, %d %b %Y %H:%M:%S +0000" UTC)
  string(TIMESTAMP year "%Y" UTC)
  file(CONFIGURE OUTPUT debian/changelog @ONLY CONTENT
       "q4 (@PROJECT_VERSION@) unstable; urgency=medium\n\n  * CHANGELOG.md has what is new.\n\n -- @Q4_MAINTAINER@  @now@\n")
  execute_process(COMMAND gzip -9nc ${CMAKE_BINARY_DIR}/debian/changelog OUTPUT_FILE ${CMAKE_BINARY_DIR}/debian/changelog.gz
                  COMMAND_ERROR_IS_FATAL ANY)
  file(CONFIGURE OUTPUT debian/copyright @ONLY CONTENT
"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: q4

Files: *
Copyright: @year@ The q4 authors
License: Apache-2.0
 On Debian systems, the licence is in /usr/share/common-licenses/Apache-2.0.
 Libraries that are compiled in have theirs in /usr/share/doc/q4/third-party.
")
  foreach(package IN ITEMS tools:q4 loader:libq4-loader-c1 development:libq4-dev)
    string(REPLACE ":" ";" package ${package})
    list(GET package 0 component)
    list(GET package 1 name)
    install(FILES ${CMAKE_BINARY_DIR}/debian/copyright ${CMAKE_BINARY_DIR}/debian/changelog.gz
            DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name} COMPONENT ${component})
  endforeach()
endif()

# Whoever hands on others' libraries hands on their licences.
if(NOT Q4_LINK STREQUAL "SHARED" AND Q4_BUILD_TOOLS)
  foreach(package IN ITEMS libabsl-dev libcli11-dev libfmt-dev libhwy-dev libre2-dev libssl-dev libxxhash-dev libzstd-dev nlohmann-json3-dev)
    install(FILES /usr/share/doc/${package}/copyright DESTINATION ${CMAKE_INSTALL_DOCDIR}/third-party RENAME ${package} COMPONENT tools)
  endforeach()
endif()
include(CPack)
