// What a name may hold is an allow list of characters; devices alone are listed as refused.
#include "formats/names/portable_names.h"

#include <algorithm>

#include "fmt/format.h"
#include "formats/base/limits.h"

namespace q4 {
namespace {

// Device names of Windows, which no ending makes into files.
constexpr std::string_view kDevices = " con prn aux nul ";

char LowerOf(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool IsNameDigit(char c) { return c >= '0' && c <= '9'; }

bool IsNameCharacter(char c) {
  const char lower = LowerOf(c);
  return (lower >= 'a' && lower <= 'z') || IsNameDigit(c) ||
         std::string_view(" ()+,-.=@_").find(c) != std::string_view::npos;
}

// COM0 to COM9, LPT0 to LPT9 and the others, by what stands before the first dot.
bool IsDevice(std::string_view lower) {
  std::string_view stem = lower.substr(0, lower.find('.'));
  while (stem.ends_with(' ')) stem.remove_suffix(1);
  if (kDevices.find(" " + std::string(stem) + " ") != std::string_view::npos) return true;
  return stem.size() == 4 && (stem.starts_with("com") || stem.starts_with("lpt")) && IsNameDigit(stem[3]);
}

// What file and folder have in common.
std::string_view ComponentProblem(std::string_view component) {
  if (component.empty()) return "a component is empty";
  if (component.size() > limits::kFileNameBytes) return "a component is too long";
  if (!std::all_of(component.begin(), component.end(), IsNameCharacter)) {
    return "a character is not one of letters, digits, space and ( ) + , - . = @ _";
  }
  if (component.front() == '.') return "a component begins with a dot";
  if (component.front() == '-' || component.front() == ' ') return "a component begins with a hyphen or space";
  if (component.back() == '.' || component.back() == ' ') return "a component ends in a dot or space";
  if (IsDevice(LowerCaseName(component))) return "a component is a device on some systems";
  return {};
}

}  // namespace

std::string LowerCaseName(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(), LowerOf);
  return lower;
}

std::string_view FolderNameProblem(std::string_view name) {
  if (name.size() > limits::kFilePathBytes) return "it is too long";
  if (std::count(name.begin(), name.end(), '/') + 2 > limits::kFilePathDepth) return "it is too deep";
  std::string_view problem;
  std::string_view rest = name;
  while (true) {
    const std::size_t slash = rest.find('/');
    const std::string_view component = rest.substr(0, slash);
    problem = ComponentProblem(component);
    // What is named as files are would stand in the way of one: a folder "config.json" or "model.safetensors".
    if (problem.empty() && component.find('.') != std::string_view::npos) problem = "a folder has a dot in its name";
    if (!problem.empty() || slash == std::string_view::npos) return problem;
    rest.remove_prefix(slash + 1);
  }
}

std::string_view FilePathProblem(std::string_view name) {
  if (name.size() > limits::kFilePathBytes) return "it is too long";
  const std::size_t slash = name.rfind('/');
  std::string_view problem;
  if (slash != std::string_view::npos) problem = FolderNameProblem(name.substr(0, slash));
  return problem.empty() ? ComponentProblem(name.substr(slash + 1)) : problem;  // npos + 1 is 0
}

std::string PortableNames::Add(std::string_view name) {
  const std::string lower = LowerCaseName(name);
  for (std::size_t end = lower.find('/'); end != std::string::npos; end = lower.find('/', end + 1)) {
    const auto at = entries_.find(std::string_view(lower).substr(0, end));
    if (at == entries_.end()) continue;
    if (at->second.is_file) return fmt::format("'{}' is a file", at->second.spelling);
    if (at->second.spelling != name.substr(0, end)) {
      return fmt::format("'{}' differs only in case", at->second.spelling);
    }
  }
  if (const auto at = entries_.find(lower); at != entries_.end()) {
    if (!at->second.is_file) return fmt::format("'{}' is a folder", at->second.spelling);
    if (at->second.spelling == name) return "it comes twice";
    return fmt::format("'{}' differs only in case", at->second.spelling);
  }
  for (std::size_t end = lower.find('/'); end != std::string::npos; end = lower.find('/', end + 1)) {
    entries_.try_emplace(lower.substr(0, end), Entry{std::string(name.substr(0, end)), false});
  }
  entries_.emplace(lower, Entry{std::string(name), true});
  return {};
}

}  // namespace q4
