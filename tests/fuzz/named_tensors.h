// Lists of tensors for the readers of weights with scales: names that belong together or nearly do, of any type and
// shape, one behind the other in two files; and what such a reader must say of those that it leaves out.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/folder/left_out.h"
#include "formats/tensor/source_tensor.h"
#include "tests/fuzz/fuzz_target.h"

namespace q4::fuzz {

// What a list is made of. A name is a stem and a leaf; a dimension is below `small_count` where its byte is below
// `small_bytes`, else one of `sizes`.
struct TensorWords {
  std::span<const std::string_view> stems, leaves;
  std::span<const DType> types;
  std::span<const std::uint64_t> sizes;
  std::uint8_t small_bytes = 0, small_count = 0;
};

// At most 32 of them; none has the name of another, nor more elements than a tensor may have.
inline std::vector<SourceTensor> NamedTensorsOf(FuzzInput& input, const TensorWords& words) {
  std::vector<SourceTensor> tensors;
  std::set<std::string> names;
  std::uint64_t end = 0;
  while (input.remaining() != 0 && tensors.size() < 32) {
    SourceTensor tensor;
    const std::uint8_t stem = input.Byte();
    tensor.name = std::string(words.stems[stem % words.stems.size()]) +
                  std::string(words.leaves[input.Below(words.leaves.size())]);
    const std::uint8_t type = input.Byte();
    tensor.dtype = type < 240 ? words.types[type % words.types.size()] : static_cast<DType>(1 + type % kMaxDType);
    for (std::uint64_t rank = input.Below(6); rank > 0; --rank) {
      const std::uint8_t byte = input.Byte();
      tensor.shape.push_back(byte < words.small_bytes ? byte % words.small_count
                                                      : words.sizes[byte % words.sizes.size()]);
    }
    if (tensor.name.empty() || !CountElements(tensor.shape, &tensor.elems) || !names.insert(tensor.name).second) {
      continue;
    }
    tensor.bytes = tensor.elems * ItemSize(tensor.dtype);
    if (stem == 255) tensor.recipe = SourceRecipe::kStrided;
    tensor.extents.push_back({stem >= 128u ? 1u : 0u, end, tensor.bytes});
    end += tensor.bytes;
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

// What is gone is what is named as left out, unless the list was cut: one of what is alike ends with a number.
inline void CheckLeftOut(LeftOutList* left_out, const std::set<std::string>& gone) {
  std::set<std::string> named;
  bool is_cut = false;
  for (const LeftOutFile& file : left_out->Take()) {
    is_cut = is_cut || file.name.ends_with(" more");
    named.insert(file.name);
  }
  if (!is_cut) Q4_FUZZ_CHECK(named == gone);
}

}  // namespace q4::fuzz
