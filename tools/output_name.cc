#include "tools/output_name.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

namespace q4 {
namespace {

// Longer ones before their own ends.
constexpr std::string_view kEndings[] = {".safetensors.index.json",
                                         ".bin.index.json",
                                         ".q4.index.json",
                                         ".safetensors",
                                         ".gguf",
                                         ".bin",
                                         ".pth",
                                         ".pt",
                                         ".q4"};

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
  for (const std::string_view ending : kEndings) {
    if (!name.ends_with(ending) || name.size() == ending.size()) continue;
    name.resize(name.size() - ending.size());
    break;
  }
  // Of a URL what follows the name says which version.
  if (input.find("://") != std::string::npos) name.resize(std::min(name.find_first_of("@?#"), name.size()));
  if (name.empty() || name == "/") return {};
  // What begins with '-' would be taken for an option where the name is typed again.
  return (name.front() == '-' ? "./" : "") + name + "-" + std::string(suffix);
}

}  // namespace q4
