// The parts of the extension module q4._core, a file each. What they define is for the Python code of the package
// alone: it has neither defaults nor the names that users see.
#pragma once

#include <nanobind/nanobind.h>

namespace q4::python {

void BindBuildInfo(nanobind::module_& module);
void BindJobs(nanobind::module_& module);
void BindContainer(nanobind::module_& module);
void BindLoaded(nanobind::module_& module);
void BindFill(nanobind::module_& module);
void BindTools(nanobind::module_& module);

}  // namespace q4::python
