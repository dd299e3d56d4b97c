# The Python package: sets Q4_HAS_PYTHON, and Q4_PYTHON_INTERPRETER, which has nanobind and is what the extension module is built with.
# With AUTO it is left out, with one line that says so, where nanobind or the headers of Python are missing, and under sanitizers, whose
# runtime an interpreter does not have.
set(Q4_HAS_PYTHON OFF)
set(Q4_PYTHON_INTERPRETER "${Q4_TEST_PYTHON}")
if(SKBUILD)
  set(Q4_PYTHON_INTERPRETER "${Python_EXECUTABLE}")
elseif(NOT Q4_PYTHON_INTERPRETER)
  find_program(Q4_SYSTEM_PYTHON python3)
  set(Q4_PYTHON_INTERPRETER "${Q4_SYSTEM_PYTHON}")
endif()
if(Q4_PYTHON AND NOT Q4_PYTHON STREQUAL "AUTO")
  set(Q4_HAS_PYTHON ON)
elseif(Q4_PYTHON AND Q4_BUILD_TOOLS AND NOT Q4_SANITIZE AND NOT Q4_BUILD_FUZZERS)
  execute_process(COMMAND "${Q4_PYTHON_INTERPRETER}" -c "import sysconfig, pathlib, nanobind, nanobind_backend
assert (pathlib.Path(sysconfig.get_paths()['include']) / 'Python.h').is_file(), 'Python.h is missing'"
    RESULT_VARIABLE q4_python_failed OUTPUT_QUIET ERROR_VARIABLE q4_python_error)
  if(q4_python_failed STREQUAL "0")
    set(Q4_HAS_PYTHON ON)
  else()
    string(REGEX REPLACE "^.*\n([^\n]+)\n?$" "\\1" q4_python_error "${q4_python_error}")
    message(STATUS "Python package: not built, ${Q4_PYTHON_INTERPRETER}: ${q4_python_error}")
  endif()
endif()
