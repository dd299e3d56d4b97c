// Names that a wrapper of a model has put something into: torch.compile, DataParallel, FSDP, PEFT and others save the
// names of their own modules as well. The policy looks through them; stored names stay as they are.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tensor/source_tensor.h"

namespace q4 {

// What wrappers put into the names of one checkpoint's tensors. Immutable after construction.
//
// Parts that only a wrapper has (`_orig_mod`, `_fsdp_wrapped_module`, ...) count anywhere. `module` counts where it is
// the only child of what stands before it, and `base_model.model` and `pretrained_model` where all names begin so: a
// model may have a part of this name, but then others beside it. Nothing is looked through where two names would become
// one.
class NameWrappers {
 public:
  explicit NameWrappers(const std::vector<SourceTensor>& tensors);

  // Whether any name has such a part.
  bool empty() const { return parts_.empty(); }
  // The parts found, as they stand in names, with a dot behind each: "_orig_mod., module.". For people; "" if empty().
  const std::string& parts() const { return parts_; }
  // How many names have one, and the first of them, as it is stored.
  std::uint64_t count() const { return count_; }
  const std::string& first() const { return first_; }
  // All of this in one sentence, with what the user can do, for a note: transformers, and loaders like it, look for the
  // model's own names. "" if empty().
  std::string Note() const;
  // The names without them, in the order of the tensors. Empty if empty().
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::string parts_, first_;
  std::uint64_t count_ = 0;
  std::vector<std::string> names_;
};

}  // namespace q4
