// Which names of files and folders mean the same on every system and hide nothing. The one rule for whatever names come
// from input and are written by us: embedded files, files and components of pipelines, folders of modules
// (docs/format.md F5.4, F5.7). Pure; names are untrusted text.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace q4 {

// What is wrong with `name` as the path of a file, relative and with '/' between components, in words for people; "" if
// nothing is. Whatever kind of file it is.
std::string_view FilePathProblem(std::string_view name);

// The same for a folder, one or more components: what F5.4 says of all components but the last.
std::string_view FolderNameProblem(std::string_view name);

// Letters of ASCII in lower case, as systems compare names that do not tell case apart.
std::string LowerCaseName(std::string_view name);

// Names that lie in one folder together (F5.7). On some systems two that differ only in case are one file, and nowhere
// can a file be a folder too.
class PortableNames {
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
