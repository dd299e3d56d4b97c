// A bitsandbytes weight P has a tensor P.quant_state.bitsandbytes__TYPE whose bytes are JSON text: type, block size,
// dtype and logical shape. Its other tensors are P (the codes) and P.absmax, P.quant_map, P.nested_absmax,
// P.nested_quant_map.
#include "libconvert/inspect_checkpoint.h"

#include <map>
#include <memory>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "formats/base/checked_math.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"

namespace q4 {
namespace {

constexpr std::string_view kQuantStateInfix = ".quant_state.bitsandbytes__";
constexpr std::uint64_t kQuantStateBytes = 64u << 10;  // real ones have about 200
constexpr int kQuantStateDepth = 3;

// Fills `weight` from a quant_state text; false if it is not what bitsandbytes writes.
bool DescribeWeight(const Json& state, InspectTensor* weight) {
  if (!state.is_object()) return false;
  const auto text = [&](const char* key) {
    const auto at = state.find(key);
    return at != state.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  static const std::map<std::string, DType> kDTypes{
      {"float32", DType::kF32}, {"float16", DType::kF16}, {"bfloat16", DType::kBF16}};
  const auto dtype = kDTypes.find(text("dtype"));
  const auto block_size = state.find("blocksize");
  const auto shape = state.find("shape");
  if (dtype == kDTypes.end() || block_size == state.end() || !block_size->is_number_unsigned() ||
      shape == state.end() || !shape->is_array()) {
    return false;
  }
  std::uint64_t elems = 1;
  Shape dims;
  for (const Json& dim : *shape) {
    if (!dim.is_number_unsigned() || !CheckedMul(elems, dim.get<std::uint64_t>(), &elems)) return false;
    dims.push_back(dim.get<std::uint64_t>());
  }
  const std::uint64_t block = block_size->get<std::uint64_t>();
  if (block > 4096) return false;
  weight->dtype = dtype->second;
  weight->shape = std::move(dims);
  weight->elems = elems;
  weight->quantized = true;
  weight->block_size = static_cast<std::uint32_t>(block);
  weight->nested = state.contains("nested_blocksize");
  weight->treatment = fmt::format("bnb {} b{}{}", text("quant_type"), block, weight->nested ? " dq" : "");
  return true;
}

class CheckpointInspection {
 public:
  explicit CheckpointInspection(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  absl::StatusOr<std::vector<InspectTensor>> Run() {
    Q4_RETURN_IF_ERROR(FindWeights());
    std::vector<InspectTensor> tensors;
    for (const TensorInfo& info : checkpoint_.tensors()) {
      if (parts_.contains(info.name)) continue;  // counted with its weight
      const auto weight = weights_.find(info.name);
      InspectTensor entry = weight != weights_.end() ? weight->second : Plain(info);
      entry.name = info.name;
      entry.stored_bytes += info.bytes;
      entry.offset = info.offset;
      entry.shard = info.file;
      tensors.push_back(std::move(entry));
    }
    return tensors;
  }
  bool has_weights() const { return !weights_.empty(); }

 private:
  static InspectTensor Plain(const TensorInfo& info) {
    InspectTensor entry;
    entry.treatment = DTypeName(info.dtype);
    entry.dtype = info.dtype;
    entry.shape = info.shape;
    entry.elems = info.elems;
    return entry;
  }

  absl::Status FindWeights() {
    for (const TensorInfo& info : checkpoint_.tensors()) {
      const std::size_t infix = info.name.find(kQuantStateInfix);
      if (infix == std::string::npos || info.bytes > kQuantStateBytes) continue;
      const std::string name = info.name.substr(0, infix);
      if (checkpoint_.Find(name) == nullptr) continue;
      std::string text(info.bytes, '\0');
      Q4_RETURN_IF_ERROR(checkpoint_.Read(info, 0, {reinterpret_cast<std::uint8_t*>(text.data()), text.size()}));
      const absl::StatusOr<Json> state = ParseJson(text, info.name, kQuantStateDepth);
      InspectTensor weight;
      if (!state.ok() || !DescribeWeight(*state, &weight)) continue;  // listed as the tensors that they are
      for (const std::string& part :
           {info.name, name + ".absmax", name + ".quant_map", name + ".nested_absmax", name + ".nested_quant_map"}) {
        const TensorInfo* belongs = checkpoint_.Find(part);
        if (belongs == nullptr) continue;
        parts_.insert(part);
        weight.stored_bytes += belongs->bytes;
      }
      weights_.emplace(name, std::move(weight));
    }
    return absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  std::map<std::string, InspectTensor> weights_;
  std::set<std::string> parts_;  // names of the tensors that belong to a weight
};

}  // namespace

absl::StatusOr<InspectReport> InspectCheckpoint(FileSystem& fs, const std::string& path, const OpenOptions& options) {
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint, OpenCheckpoint(fs, path, options));
  InspectReport report;
  report.path = path;
  report.format = checkpoint->format();
  for (const CheckpointFile& file : checkpoint->files()) {
    report.shards.push_back({file.file->path(), file.file->size(), std::nullopt});
    report.file_bytes += file.file->size();
  }
  report.shard_count = static_cast<std::uint32_t>(report.shards.size());
  for (const CompanionFile& file : checkpoint->companions()) report.files.push_back({file.name, file.size});
  if (const absl::StatusOr<std::string> config = checkpoint->ConfigJson(fs); config.ok()) {
    ReadModelNames(*config, path, &report);
  }
  CheckpointInspection inspection(*checkpoint);
  Q4_ASSIGN_OR_RETURN(report.tensors, inspection.Run());
  if (inspection.has_weights()) report.format += ", bitsandbytes";
  SumUpTensors(&report);
  return report;
}

}  // namespace q4
