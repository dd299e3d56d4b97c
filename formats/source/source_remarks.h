// What files of a checkpoint say beside their tensors, counted and named, so that who leaves it out can tell.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace q4 {

// The entries of `__metadata__` in the headers of safetensors, over all files: a title, a licence, a thumbnail, how the
// model was trained. Of PyTorch checkpoints what was saved beside the model; of GGUF what parts after the first say.
// Memory: the names of a few.
class SourceRemarks {
 public:
  // `place`: where in the files it stands; static. Of remarks that are added together the first one's is kept.
  explicit SourceRemarks(std::string_view place = "__metadata__") : place_(place) {}
  std::string_view place() const { return place_; }

  // One entry's name. Names that were there before, and those after the first few, change nothing.
  void AddName(std::string_view name);
  // That many entries with that many bytes of text.
  void AddEntries(std::uint64_t entries, std::uint64_t bytes);
  // What another file says.
  void Add(const SourceRemarks& other);

  bool empty() const { return entries_ == 0; }
  // "3 entries, 312 kB: modelspec.title, modelspec.thumbnail, ...". Fit for a terminal.
  std::string Text() const;

 private:
  void AddShown(std::string shown);

  std::string_view place_;
  std::vector<std::string> names_;  // different ones, in the order in which they came
  std::uint64_t entries_ = 0, bytes_ = 0;
};

}  // namespace q4
