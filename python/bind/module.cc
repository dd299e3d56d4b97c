#include "python/bind/module.h"

#include "python/bind/status_error.h"

NB_MODULE(_core, module) {
  module.doc() = "The library of q4 behind the package; no public interface.";
  q4::python::RegisterStatusError();
  q4::python::BindBuildInfo(module);
  q4::python::BindJobs(module);
  q4::python::BindLoaded(module);
  q4::python::BindContainer(module);
  q4::python::BindFill(module);
  q4::python::BindTools(module);
}
