// The tensors of an adapter of PEFT, put together by their names: factors of a module, and what replaces a tensor of
// the model.
//
//   base_model.model.MODULE.lora_A.weight       with lora_B.weight, lora_B.bias, lora_magnitude_vector
//   base_model.model.MODULE.lora_embedding_A    with lora_embedding_B, lora_magnitude_vector
//   base_model.model.MODULE.base_layer.weight   the module's own, saved beside its factors
//   base_model.model.MODULE.weight              of modules_to_save, a trained bias, a saved embedding
//
// "base_model.model." may be absent, and the name of the adapter may stand behind lora_A and its like, as in a
// training's own state.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/adapter/adapter_config.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// One module with factors. Pointers are into the list that it was made of; nullptr for what is not there.
struct AdaptedModule {
  const SourceTensor* a = nullptr;
  const SourceTensor* b = nullptr;
  const SourceTensor* bias = nullptr;
  const SourceTensor* magnitude = nullptr;
  bool is_embedding = false;
};

// What stands for a tensor of the model.
struct ReplacedTensor {
  const SourceTensor* tensor = nullptr;
  // Of a module that was trained as a copy (modules_to_save), which shares nothing; else the model's own, saved anew.
  bool is_copy = false;
};

struct AdapterParts {
  std::map<std::string, AdaptedModule> modules;    // by name in memory; a and b are there
  std::map<std::string, ReplacedTensor> replaced;  // by name of the model's tensor, in memory
  std::vector<const SourceTensor*> unused;         // what a copy stands for, which a merge drops
};

// `path`: of the adapter's weights, for errors: kAdapterTensor for a name of none of these forms; kAdapterParts;
// kAdapterRank for factors whose ranks are not the same, kAdapterShape for such of one dimension; kAdapterDType.
absl::StatusOr<AdapterParts> ReadAdapterParts(const AdapterConfig& config, const std::vector<SourceTensor>& tensors,
                                              std::string_view path);

// The ranks of the factors of a module: of a and of b. REQUIRES: both of at least one dimension.
std::uint64_t RankOfFactors(const AdaptedModule& module);

}  // namespace q4
