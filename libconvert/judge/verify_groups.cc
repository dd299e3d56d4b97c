// Entries of a report made of a container's index. What layers and roles are is decided in model/tensor_groups.h, how
// statistics add up in model/stats.h; this joins them.
#include "libconvert/judge/verify_groups.h"

#include <map>
#include <string>
#include <utility>

#include "libconvert/model/tensor_groups.h"

namespace q4 {

VerifyTensor DescribeTensor(const Q4Index& index, const Q4Tensor& tensor) {
  VerifyTensor entry;
  entry.name = tensor.name;
  entry.shape = tensor.shape;
  entry.dtype = tensor.dtype;
  // Scheme, block size and nesting, which both structs inherit.
  static_cast<QuantFormat&>(entry) = tensor;
  entry.encoder = tensor.encoder;
  entry.elems = tensor.elems;
  for (const Q4PartEntry& part : tensor.parts()) {
    for (std::uint64_t i = 0; i < part.chunk_count; ++i) {
      // As they lie in the file: compressed, without padding.
      entry.stored_bytes += index.chunks[part.first_chunk + i].stored_bytes;
    }
  }
  entry.has_stats = tensor.has_stats;
  if (tensor.has_stats) entry.stats = *tensor.stats;
  return entry;
}

// Empty strings where a name has no layer or no role.
void AssignGroups(std::vector<VerifyTensor>* tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors->size());
  for (const VerifyTensor& tensor : *tensors) names.push_back(tensor.name);
  // One group per name, in the same order.
  std::vector<TensorGroup> groups = GroupTensors(names);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    (*tensors)[i].layer = std::move(groups[i].layer);
    (*tensors)[i].role = std::move(groups[i].role);
  }
}

// Tensors that were kept, or of which nothing is recorded, belong to no total.
void SumUpStats(VerifyReport* report) {
  // Natural order, so that layer 10 follows layer 9.
  std::map<std::string, VerifyGroup, bool (*)(std::string_view, std::string_view)> layers(NaturalLess);
  std::map<std::string, VerifyGroup> roles;
  const auto add = [](const VerifyTensor& tensor, VerifyGroup* group) {
    AddTensor(tensor.name, tensor.stats, &group->stats);
    group->absmax.Add(tensor.absmax);
  };
  for (const VerifyTensor& tensor : report->tensors) {
    if (!tensor.quantized() || !tensor.has_stats) continue;
    // Q8.11 adds in bytewise order of names, which is the order of the tensors.
    AddTensor(tensor.name, tensor.stats, &report->model);
    report->absmax.Add(tensor.absmax);
    if (!tensor.layer.empty()) add(tensor, &layers[tensor.layer]);
    if (!tensor.role.empty()) add(tensor, &roles[tensor.role]);
  }
  std::vector<VerifyGroup>& groups = report->groups;
  groups.reserve(layers.size() + roles.size());
  const auto append = [&groups](VerifyGroup::Kind kind, const std::string& name, VerifyGroup& group) {
    group.kind = kind;
    group.name = name;
    groups.push_back(std::move(group));
  };
  for (auto& [name, group] : layers) append(VerifyGroup::Kind::kLayer, name, group);
  for (auto& [name, group] : roles) append(VerifyGroup::Kind::kRole, name, group);
}

}  // namespace q4
