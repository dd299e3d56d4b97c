#include "libconvert/inspect/checkpoint.h"

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "libconvert/model/bnb_weights.h"

namespace q4 {
namespace {

// A weight as its quant_state describes it.
InspectTensor Described(const BnbQuantState& state) {
  InspectTensor weight;
  weight.dtype = state.dtype;
  weight.shape = state.shape;
  weight.elems = state.elems;
  static_cast<QuantFormat&>(weight) = state;
  weight.treatment =
      fmt::format("bnb {} b{}{}", Q4SchemeName(state.scheme), state.block_size, state.nested ? " dq" : "");
  return weight;
}

class CheckpointInspection {
 public:
  explicit CheckpointInspection(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  absl::StatusOr<std::vector<InspectTensor>> Run() {
    Q4_RETURN_IF_ERROR(FindWeights());
    std::vector<InspectTensor> tensors;
    for (const SourceTensor& info : checkpoint_.tensors()) {
      if (parts_.contains(info.name)) continue;  // counted with its weight
      const auto weight = weights_.find(info.name);
      InspectTensor entry = weight != weights_.end() ? weight->second : Plain(info);
      entry.name = info.name;
      if (weight == weights_.end()) entry.stored_bytes = info.stored_bytes();
      entry.offset = info.place().offset;
      entry.shard = info.place().file;
      tensors.push_back(std::move(entry));
    }
    return tensors;
  }
  bool has_weights() const { return !weights_.empty(); }

 private:
  static InspectTensor Plain(const SourceTensor& info) {
    InspectTensor entry;
    entry.treatment = DTypeName(info.dtype);
    entry.dtype = info.dtype;
    entry.shape = info.shape;
    entry.elems = info.elems;
    return entry;
  }

  // A weight without a well-formed description is not joined: each of its tensors is listed by itself, and --lint says
  // what is wrong with it.
  absl::Status FindWeights() {
    Q4_ASSIGN_OR_RETURN(const std::vector<BnbWeight> weights, FindBnbWeights(checkpoint_));
    for (const BnbWeight& weight : weights) {
      InspectTensor described = Described(weight.state);
      for (const SourceTensor* belongs : weight.tensors()) {
        described.stored_bytes += belongs->bytes;
        if (belongs != weight.codes) parts_.insert(belongs->name);
      }
      weights_.emplace(weight.name, std::move(described));
    }
    return absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  std::map<std::string, InspectTensor> weights_;
  std::set<std::string> parts_;  // names of the tensors that belong to a weight
};

}  // namespace

absl::StatusOr<InspectReport> InspectCheckpoint(FileSystem& fs, const Checkpoint& checkpoint) {
  InspectReport report;
  report.format = checkpoint.format();
  for (const CheckpointFile& file : checkpoint.files()) {
    report.shards.push_back({file.file->path(), file.file->size(), std::nullopt});
    report.file_bytes += file.file->size();
  }
  report.shard_count = static_cast<std::uint32_t>(report.shards.size());
  for (const CompanionFile& file : checkpoint.companions()) report.files.push_back({file.name, file.size});
  if (const absl::StatusOr<std::string> config = checkpoint.ConfigJson(fs); config.ok()) {
    SetModelNames(*config, &report);
  }
  CheckpointInspection inspection(checkpoint);
  Q4_ASSIGN_OR_RETURN(report.tensors, inspection.Run());
  // Two words: what the files are, and what is in them.
  if (inspection.has_weights()) report.format += ", bitsandbytes";
  SumUpTensors(&report);
  return report;
}

}  // namespace q4
