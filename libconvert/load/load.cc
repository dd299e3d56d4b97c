#include "libconvert/load/load.h"

#include <algorithm>
#include <utility>

#include "formats/base/status.h"

namespace q4 {
namespace {

// Addresses only: of a device's memory nothing can be read here.
LoadedTensor Describe(const LoadPlan& plan, const LoadPlanTensor& planned, const LoadPlaces& places) {
  LoadedTensor tensor;
  tensor.entry = *planned.entry;
  tensor.shape = planned.shape;
  tensor.elems = planned.elems;
  tensor.dtype = planned.dtype;
  for (std::size_t p = 0; p < planned.part_count; ++p) {
    const LoadPart& part = plan.parts[planned.first_part + p];
    // No bytes, so no address either.
    if (part.bytes == 0) continue;
    const std::uint8_t* const at = places.parts.empty() ? places.blocks[part.block].data() + part.offset
                                                        : places.parts[planned.first_part + p].data();
    switch (part.kind) {
      case LoadPartKind::kValues:
        tensor.values = at;
        tensor.value_bytes = part.bytes;
        break;
      case LoadPartKind::kCodes:
        tensor.codes = at;
        break;
      case LoadPartKind::kScales:
        tensor.scales = reinterpret_cast<const float*>(at);
        break;
      case LoadPartKind::kScaleCodes:
        tensor.scale_codes = at;
        break;
      case LoadPartKind::kScales2:
        tensor.scales2 = reinterpret_cast<const float*>(at);
        break;
      case LoadPartKind::kOffset:
        tensor.nested_offset = reinterpret_cast<const float*>(at);
        break;
    }
  }
  return tensor;
}

}  // namespace

const LoadedTensor* LoadedModel::Find(std::string_view name) const {
  // As the plan's, they are sorted by name.
  const auto at =
      std::lower_bound(tensors.begin(), tensors.end(), name,
                       [](const LoadedTensor& tensor, std::string_view n) { return tensor.entry.name < n; });
  return at != tensors.end() && at->entry.name == name ? &*at : nullptr;
}

std::vector<LoadedTensor> LoadedTensors(const LoadPlan& plan, const LoadPlaces& places) {
  std::vector<LoadedTensor> tensors;
  for (const LoadPlanTensor& tensor : plan.tensors) tensors.push_back(Describe(plan, tensor, places));
  return tensors;
}

absl::StatusOr<LoadedModel> LoadModel(const Q4Model& model, LoadMemory& memory, const LoadOptions& options) {
  Q4_ASSIGN_OR_RETURN(const LoadPlan plan, PlanLoad(model, options));
  Q4_RETURN_IF_ERROR(CheckFill(plan, options));
  LoadedModel loaded;
  LoadPlaces places;
  for (const std::uint64_t bytes : plan.blocks) {
    Q4_ASSIGN_OR_RETURN(std::unique_ptr<MemoryBlock> block, memory.Allocate(bytes));
    places.blocks.emplace_back(block->data(), bytes);
    loaded.blocks.push_back(std::move(block));
  }
  Q4_ASSIGN_OR_RETURN(loaded.read_bytes, FillLoad(plan, memory, places, options));
  loaded.tensors = LoadedTensors(plan, places);
  return loaded;
}

}  // namespace q4
