// Which names embedded files may have (docs/format.md F5.4 to F5.7). An export writes these files, so a name must mean
// the same file on every system, hide nothing, and be of a kind that no loader takes for weights and nobody runs. The
// one rule for writer, reader, converter and exporter. Pure; names are untrusted text.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace q4 {

// What is wrong with `name` as that of an embedded file, in words for people; "" if nothing is. Names are asked one by
// one here; Q4FileNames holds them against each other.
std::string_view Q4FileNameProblem(std::string_view name);

// The same, whatever kind of file it is: for a file that lies beside others and is not embedded, weights above all.
std::string_view Q4FilePathProblem(std::string_view name);

// The same for a folder, one or more components: what F5.4 says of all components but the last.
std::string_view Q4FolderNameProblem(std::string_view name);

// Names that lie in one folder together (F5.7). On some systems two that differ only in case are one file, and nowhere
// can a file be a folder too.
class Q4FileNames {
 public:
  // Adds a name, relative to the folder. What keeps it from lying beside those before it, in words, or "": then, and
  // only then, it was added.
  std::string Add(std::string_view name);

 private:
  struct Entry {
    std::string spelling;
    bool is_file = false;
  };
  std::map<std::string, Entry, std::less<>> entries_;  // by the name in lower case, folders on the way too
};

}  // namespace q4
