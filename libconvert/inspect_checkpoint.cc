// A bitsandbytes weight P has a tensor P.quant_state.bitsandbytes__TYPE whose bytes are JSON text: type, block size,
// dtype and logical shape. Its other tensors are P (the codes) and P.absmax, P.quant_map, P.nested_absmax,
// P.nested_quant_map.
#include "libconvert/inspect_checkpoint.h"

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "libconvert/bnb_quant_state.h"

namespace q4 {
namespace {

// A weight as its quant_state describes it.
InspectTensor Described(const BnbQuantState& state) {
  InspectTensor weight;
  weight.dtype = state.dtype;
  weight.shape = state.shape;
  weight.elems = state.elems;
  weight.quantized = true;
  weight.block_size = state.block_size;
  weight.nested = state.nested;
  weight.treatment = fmt::format("bnb {} b{}{}", state.book == CodeBook::kNf4 ? "nf4" : "fp4", state.block_size,
                                 state.nested ? " dq" : "");
  return weight;
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
      const std::size_t infix = info.name.find(kBnbQuantStateInfix);
      if (infix == std::string::npos || info.bytes > kBnbQuantStateBytes) continue;
      const std::string name = info.name.substr(0, infix);
      if (checkpoint_.Find(name) == nullptr) continue;
      std::string text(info.bytes, '\0');
      Q4_RETURN_IF_ERROR(checkpoint_.Read(info, 0, {reinterpret_cast<std::uint8_t*>(text.data()), text.size()}));
      std::string problem;
      const std::optional<BnbQuantState> state = ParseBnbQuantState(text, &problem);
      if (!state) continue;  // listed as the tensors that they are; --lint says what is wrong
      InspectTensor weight = Described(*state);
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
    SetModelNames(*config, &report);
  }
  CheckpointInspection inspection(*checkpoint);
  Q4_ASSIGN_OR_RETURN(report.tensors, inspection.Run());
  if (inspection.has_weights()) report.format += ", bitsandbytes";
  SumUpTensors(&report);
  return report;
}

}  // namespace q4
