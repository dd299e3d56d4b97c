// The tensors of a checkpoint become the entries of a report one by one, in two steps: find the bitsandbytes weights
// and remember which tensors belong to them; then go through the list, leave these out, and put the weight in the place
// of its codes. Nothing is checked that a listing does not need: a weight whose scales are missing is listed, and lint
// and a decoder refuse it.
#include "libconvert/inspect/checkpoint.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/gguf/gguf.h"
#include "formats/tensor/source_tensor.h"
#include "libconvert/model/bnb_weights.h"

namespace q4 {
namespace {

// A weight as its quant_state describes it. Name, place and size come from the tensors.
InspectTensor Described(const BnbQuantState& state) {
  InspectTensor weight;
  weight.dtype = state.dtype;
  weight.shape = state.shape;
  weight.elems = state.elems;
  static_cast<QuantFormat&>(weight) = state;
  // Like TreatmentName(), with "bnb" before it: these codes are stored by another layout's rules.
  weight.treatment =
      fmt::format("bnb {} b{}{}", Q4SchemeName(state.scheme), state.block_size, state.nested ? " dq" : "");
  return weight;
}

// Makes the list of one checkpoint, once.
class CheckpointInspection {
 public:
  explicit CheckpointInspection(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  absl::StatusOr<std::vector<InspectTensor>> Run() {
    Q4_RETURN_IF_ERROR(FindWeights());
    std::vector<InspectTensor> tensors;
    for (const SourceTensor& info : checkpoint_.tensors()) {
      // It is counted with its weight.
      if (parts_.contains(info.name)) continue;
      const auto weight = weights_.find(info.name);
      InspectTensor entry = weight != weights_.end() ? weight->second : Plain(info);
      entry.name = info.name;
      // A weight has its size already, with all that belongs to it.
      if (weight == weights_.end()) entry.stored_bytes = info.stored_bytes();
      // Where the tensor begins; of a weight, where its codes do.
      entry.offset = info.place().offset;
      entry.shard = info.place().file;
      tensors.push_back(std::move(entry));
    }
    return tensors;
  }
  bool has_weights() const { return !weights_.empty(); }

 private:
  // A tensor that is listed as it is stored; the dtype is its treatment.
  static InspectTensor Plain(const SourceTensor& info) {
    InspectTensor entry;
    const StoredParts parts = StoredPartsOf(info);
    entry.treatment = DTypeName(info.dtype);
    if (!parts.names.empty()) entry.treatment += fmt::format(" of {}", DTypeName(parts.dtype));
    entry.stored_names.assign(parts.names.begin(), parts.names.end());
    entry.stored_dtype = parts.dtype;
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
  // By name, which is also that of the codes.
  std::map<std::string, InspectTensor> weights_;
  // Names of the tensors that belong to a weight, but for its codes.
  std::set<std::string> parts_;
};

// Whether weights are stored as 8-bit floats and read as others.
bool StoresFp8(const Checkpoint& checkpoint) {
  const auto is_fp8 = [](DType dtype) { return dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2; };
  return std::any_of(checkpoint.tensors().begin(), checkpoint.tensors().end(), [&](const SourceTensor& tensor) {
    return !is_fp8(tensor.dtype) && is_fp8(StoredPartsOf(tensor).dtype);
  });
}

}  // namespace

absl::StatusOr<InspectReport> InspectCheckpoint(FileSystem& fs, const Checkpoint& checkpoint) {
  InspectReport report;
  report.format = checkpoint.format();
  for (const CheckpointFile& file : checkpoint.files()) {
    report.shards.push_back({file.file->path(), file.file->size(), std::nullopt});
    report.file_bytes += file.file->size();
  }
  report.shard_count = static_cast<std::uint32_t>(report.shards.size());
  // Companions are not opened: their sizes are known from the directory.
  for (const CompanionFile& file : checkpoint.companions()) report.files.push_back({file.name, file.size});
  report.left_out = checkpoint.left_out();
  if (const absl::StatusOr<std::string> config = checkpoint.ConfigJson(fs); config.ok()) {
    SetModelNames(*config, &report);
  }
  // A config.json beside it, if any, is that of the model it was made from.
  if (IsGgufFormat(checkpoint.format())) SetGgufNames(*checkpoint.files().front().file, &report);
  CheckpointInspection inspection(checkpoint);
  Q4_ASSIGN_OR_RETURN(report.tensors, inspection.Run());
  // What the files are, and what is in them, by the names of docs/compatibility.md.
  if (inspection.has_weights()) {
    report.format += ", bitsandbytes";
  } else if (checkpoint.foreign()) {
    report.format += ", " + checkpoint.foreign()->name;
  } else {
    if (StoresFp8(checkpoint)) report.format += ", FP8";
    if (!checkpoint.four_bits().empty()) report.format += ", " + checkpoint.four_bits();
  }
  SumUpTensors(&report);
  return report;
}

}  // namespace q4
