// The kinds of files and folders that lie in a model's folder: what becomes of each, and why. One table for files and
// one for folders, read from top to bottom; the first row that matches a name has it, and the last row has every name.
// Names alone decide here. Pure.
#pragma once

#include <string_view>

namespace q4 {

// What becomes of a file. A loader asks for what is carried; what it would miss is told as a warning.
enum class FileFate {
  kCarried,       // configuration, tokenizer, template: a model without it is another one, so nothing may stop it
  kDocument,      // carried too, but left out where it is too large to be read by anybody
  kOtherWeights,  // the same weights for another framework; in a folder without weights that are read, a loss
  kCode,          // never carried: a loader would execute what a container brought
  kLeftOut,       // of no use to a loader
  kMissed,        // not carried, and a loader may ask for it
  kHidden,        // begins with '.', or comes and goes: not recorded
  kOwn,           // written by q4 itself: not recorded
};

// What becomes of a folder.
enum class FolderFate {
  kSearched,  // its files are looked at one by one
  kLeftOut,   // of no use to a loader
  kMissed,    // not carried, and a loader may look into it
  kHidden,    // as for files
  kOwn,       // as for files
};

template <typename Fate>
struct NameKind {
  // Patterns separated by single spaces, in lower case; `*` stands for any characters. They are held against the whole
  // name in lower case (ASCII only).
  std::string_view patterns;
  Fate fate;
  std::string_view reason;  // a short phrase for people; "" for what is carried or searched
  // A rule that is written elsewhere, or nullptr; names that it holds for are of this kind too.
  bool (*matches)(std::string_view name) = nullptr;
};
using FileNameKind = NameKind<FileFate>;
using FolderNameKind = NameKind<FolderFate>;

// The row for a file or folder of this name, without its directory. REQUIRES: the name is not empty.
const FileNameKind& KindOfFile(std::string_view name);
const FolderNameKind& KindOfFolder(std::string_view name);

// Whether a file of this name is carried, as kCarried or kDocument.
bool IsCompanionName(std::string_view name);

}  // namespace q4
