#include "tools/output_name.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "formats/base/text.h"
#include "formats/source/source_formats.h"

namespace q4 {
namespace {

// The ending of a file that a reader knows, or of an index of such files; the longest that fits, "" of another name.
std::string EndingOf(std::string_view name) {
  std::string longest;
  const auto consider = [&](std::string_view ending) {
    for (const std::string& whole : {std::string(ending), std::string(ending) + ".index.json"}) {
      if (name.size() > whole.size() && name.ends_with(whole) && whole.size() > longest.size()) longest = whole;
    }
  };
  for (const SourceFormat& format : SourceFormats()) {
    AnyItem(format.ending, " ", [&](std::string_view ending) {
      consider(ending);
      return false;
    });
  }
  consider(".q4");
  return longest;
}

}  // namespace

std::string NameOutput(const std::string& input, std::string_view suffix) {
  namespace fs = std::filesystem;
  std::error_code error;
  // "." and "model/.." are names of places; what counts is how the place is called.
  fs::path path = fs::absolute(input, error).lexically_normal();
  if (error) return {};
  if (path.filename().empty()) path = path.parent_path();
  std::string name = path.filename().string();
  // models--ORGANISATION--NAME/snapshots/COMMIT, and in it COMMIT/model.safetensors is called model.
  const std::string repository = path.parent_path().parent_path().filename().string();
  if (path.parent_path().filename() == "snapshots" && repository.starts_with("models--")) {
    name = repository.substr(repository.rfind("--") + 2);
  }
  name.resize(name.size() - EndingOf(name).size());
  // Of a URL what follows the name says which version.
  if (input.find("://") != std::string::npos) name.resize(std::min(name.find_first_of("@?#"), name.size()));
  if (name.empty() || name == "/") return {};
  // What begins with '-' would be taken for an option where the name is typed again.
  return (name.front() == '-' ? "./" : "") + name + "-" + std::string(suffix);
}

}  // namespace q4
