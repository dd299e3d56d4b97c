// The command-line tools, which a wheel brings as scripts that call this: one library, not five.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>
#include <string_view>
#include <vector>

#include "python/bind/module.h"
#include "python/bind/text.h"
#include "tools/mains.h"

namespace nb = nanobind;

namespace q4::python {
namespace {

struct Tool {
  std::string_view name;
  int (*main)(int argc, char** argv);
};
constexpr Tool kTools[] = {
    {"q4convert", ConvertMain}, {"q4export", ExportMain}, {"q4inspect", InspectMain}, {"q4verify", VerifyMain}};

// The exit code. Takes the signals over and closes stdout: the process is to end.
int RunTool(const std::string& name, const nb::sequence& words) {
  std::vector<std::string> texts;
  for (const nb::handle word : words) texts.push_back(TextOf(nb::cast<nb::bytes>(word)));
  std::vector<char*> argv;
  for (std::string& text : texts) argv.push_back(text.data());
  for (const Tool& tool : kTools) {
    if (tool.name != name) continue;
    const nb::gil_scoped_release unlocked;
    return tool.main(static_cast<int>(argv.size()), argv.data());
  }
  throw nb::key_error(name.c_str());
}

}  // namespace

void BindTools(nb::module_& module) {
  module.def("run_tool", &RunTool, nb::arg("name"), nb::arg("words"),
             nb::sig("def run_tool(name: str, words: Sequence[bytes]) -> int"),
             "A tool with its command line: its exit code. The process has nothing to do behind it.");
}

}  // namespace q4::python
