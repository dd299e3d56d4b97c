// Which tensor of a model an adapter means. Internal to this wing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/tensor/source_tensor.h"
#include "libconvert/policy/module_names.h"

namespace q4 {

// The names of a model's tensors, on disk and in memory. Immutable but for notes().
class MergeNames {
 public:
  // `tensors` must outlive this, and their names must not change.
  MergeNames(const std::vector<SourceTensor>& tensors, const std::string& config_json);

  // The tensor "<module>.<parameter>", the module by its name in memory; nullopt where there is none. `file` and
  // `asks`, a tensor of the adapter, are named in errors: kAdapterConverted, kAdapterAmbiguous.
  absl::StatusOr<std::optional<std::size_t>> Find(const std::string& name, std::string_view file,
                                                  std::string_view asks);

  // Whether the module is an output head that may share its weight with the input embedding.
  bool IsHead(std::string_view module) const;
  const std::string& usual_head() const { return heads_.front(); }
  // The weight of the input embedding: the only tensor with one of the names that such have; nullopt for none or
  // several.
  std::optional<std::size_t> embedding() const { return embedding_; }
  // Whether config.json says that head and embedding share a weight; nullopt where it does not say.
  std::optional<bool> tied() const { return tied_; }
  // How names of the adapter had to be changed, for a note; "" where none had.
  const std::string& changed() const { return changed_; }

 private:
  struct Place {
    std::size_t tensor = 0;
    bool is_converted = false;  // or one of several that are joined or split
  };
  const Place* Exactly(const std::string& name) const;
  absl::StatusOr<const Place*> WithOtherPrefix(const std::string& name, std::string_view file, std::string_view asks);

  std::unordered_map<std::string, Place> places_;  // by name in memory; and by name on disk where no other has it
  std::set<std::string, std::less<>> begins_;      // first parts of these names
  std::vector<std::string> heads_;
  std::optional<std::size_t> embedding_;
  std::optional<bool> tied_;
  std::string changed_;
};

}  // namespace q4
