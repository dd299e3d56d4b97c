#include "python/bind/status_error.h"

#include <nanobind/nanobind.h>

#include <exception>
#include <string>

#include "formats/base/status_parts.h"
#include "libconvert/engine/device.h"
#include "libconvert/engine/device_issues.h"

namespace nb = nanobind;

namespace q4::python {
namespace {

// Paths and names are bytes here: how they become text is Python's matter.
nb::bytes BytesOf(const std::string& text) { return nb::bytes(text.data(), text.size()); }

void Translate(const std::exception_ptr& thrown, void*) {
  try {
    std::rethrow_exception(thrown);
  } catch (const StatusError& error) {
    const absl::Status& status = error.status();
    const bool failed = IsDeviceFailure(status) || IssueNumberOf(status) == kNoDevice.number;
    // What such an error names first is the device, no file.
    const bool device = failed || IssueNumberOf(status) == kNoCuda.number;
    const nb::object value =
        nb::module_::import_("q4._errors")
            .attr("from_status")(BytesOf(MessageOf(status)), IssueNumberOf(status),
                                 static_cast<int>(ExitCodeOf(status)), BytesOf(device ? std::string() : FileOf(status)),
                                 BytesOf(TensorOf(status)), failed);
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(value.ptr())), value.ptr());
  }
}

}  // namespace

void RegisterStatusError() { nb::register_exception_translator(Translate); }

}  // namespace q4::python
