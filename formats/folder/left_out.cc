// Groups are kept while a folder is read, so that a folder with a million files takes the memory of the few names that
// are shown.
#include "formats/folder/left_out.h"

#include <algorithm>

#include "formats/base/text.h"

namespace q4 {
namespace {

// Of a name in a list: long enough for every name of a file system, and still a line.
constexpr std::size_t kNameBytes = 512;

}  // namespace

void LeftOutList::Add(std::string_view folder, std::string_view name, std::string_view reason, bool warning,
                      bool recorded) {
  Alike& alike = groups_[{std::string(folder), {std::string(reason), warning}}];
  ++alike.count;
  alike.recorded = recorded;
  if (alike.names.size() > (warning ? kShownMissed : kShownOthers)) return;
  const std::string path = folder.empty() ? std::string(name) : std::string(folder) + "/" + std::string(name);
  alike.names.push_back(Printable(path, kNameBytes));
}

std::vector<LeftOutFile> LeftOutList::Take() {
  std::vector<LeftOutFile> files;
  for (auto& [key, alike] : groups_) {
    const auto& [reason, warning] = key.second;
    // One more than is shown would make "and 1 more", which is no shorter than its name.
    const std::uint64_t hidden = alike.count - alike.names.size();
    if (hidden != 0) alike.names.back() += " and " + std::to_string(hidden) + " more";
    for (std::string& name : alike.names) files.push_back({std::move(name), reason, warning, alike.recorded});
  }
  groups_.clear();
  std::sort(files.begin(), files.end(), [](const LeftOutFile& a, const LeftOutFile& b) { return a.name < b.name; });
  if (files.size() > kMost) {
    const std::string rest = std::to_string(files.size() - kMost);
    files.resize(kMost);
    files.push_back({"~ and " + rest + " more", "too many to be listed", /*warning=*/true});
  }
  return files;
}

}  // namespace q4
