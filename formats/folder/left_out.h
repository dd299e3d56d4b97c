// What lies in a model's folder and is not carried. Nothing is dropped in silence, and no folder may flood the reader:
// what is alike is listed up to a number and counted beyond it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace q4 {

// Something that lies in the model's folder and is no part of the checkpoint: neither weights that are read nor a
// companion.
struct LeftOutFile {
  std::string name;      // relative to the model directory, '/' separated, "onnx/" for a folder; fit for a terminal
  std::string reason;    // a short phrase for people: "left over from training"; fit for a terminal
  bool warning = false;  // a loader of the model would miss it
  // Whether a container records it. What q4 itself writes and hidden files come and go, so that a second run would make
  // another container of the same model.
  bool recorded = true;
};

// Collects them. Files of one folder with one reason are alike: of those that a loader would miss kShownMissed are
// listed, of others kShownOthers, and the last entry counts the rest: "pytorch_model-00004.bin and 187 more".
class LeftOutList {
 public:
  static constexpr std::size_t kShownMissed = 16, kShownOthers = 4;
  // Entries in all, but for one that counts the rest: a container's provenance must hold them (docs/format.md).
  static constexpr std::size_t kMost = 1'000;

  // `folder`: relative, "" for the model's own. `name` is in it and is escaped here.
  void Add(std::string_view folder, std::string_view name, std::string_view reason, bool warning, bool recorded = true);
  // Bytewise sorted by name. The list is empty afterwards. Names must have been added in a fixed order.
  std::vector<LeftOutFile> Take();

 private:
  struct Alike {
    std::vector<std::string> names;  // the first of them, as many as are shown and one more
    std::uint64_t count = 0;         // all
    bool recorded = true;
  };
  // By folder, reason and warning.
  std::map<std::pair<std::string, std::pair<std::string, bool>>, Alike> groups_;
};

}  // namespace q4
