// By name. A folder is the same with another number of files in it: nothing of it was taken either way.
#include "libconvert/verify/left_out.h"

#include <set>
#include <string>

#include "libconvert/judge/verify_issues.h"

namespace q4 {
namespace {

// "onnx/ (12 files)" -> "onnx/"; other names as they are.
std::string_view WithoutCount(std::string_view name) {
  const std::size_t count = name.rfind("/ (");
  return count == std::string_view::npos ? name : name.substr(0, count + 1);
}

}  // namespace

std::vector<LeftOutFile> CompareLeftOut(std::vector<LeftOutFile> found, const std::vector<LeftOutFile>& recorded,
                                        std::string_view path, FindingList* findings) {
  std::set<std::string_view> names;
  for (const LeftOutFile& file : recorded) names.insert(WithoutCount(file.name));
  for (LeftOutFile& file : found) {
    file.recorded = names.contains(WithoutCount(file.name));
    if (file.warning && !file.recorded) {
      findings->Add("", kNotRecorded, path, "file '" + file.name + "'", file.reason);
    }
  }
  return found;
}

}  // namespace q4
