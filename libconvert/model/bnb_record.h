// What a container says of weights that were taken over from bitsandbytes beside their codes and scales (docs/format.md
// section 8, `bitsandbytes`): whatever else an export must write to give back the same bytes, as far as it differs from
// what it would write by itself.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/json_value.h"
#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// Whether the tensor is a weight of bitsandbytes whose codes and scales were taken over.
inline bool IsTakenOver(const Q4Tensor& tensor) { return tensor.quantized() && tensor.encoder == Q4Encoder::kNone; }

// The tables as bitsandbytes saves them, fp32, little-endian.
std::vector<std::uint8_t> BnbQuantMapBytes(Q4Scheme scheme);
std::vector<std::uint8_t> BnbNestedMapBytes();

// Whether the tables of all weights that are taken over are the library's, up to the last digits, which not all builds
// compute alike, and equal among each other; and whether offsets are finite. Errors name file and tensor: kBnbOtherType
// and kBnbScale (exit code 3), kBnbTable and kBnbRecord (5). Reads nothing.
absl::Status CheckTakenOver(const Checkpoint& checkpoint);

// The member `bitsandbytes` of the provenance; null where there is nothing to record, as where nothing is taken over.
// REQUIRES: CheckTakenOver() holds.
Json BnbRecordJson(const Checkpoint& checkpoint);

// The same as it is read back, with what is not recorded filled in.
struct BnbRecord {
  // Of a weight that differs; what is not set is usual.
  struct Weight {
    std::optional<std::string> quant_state;  // the text
    DType storage = DType::kU8;              // what its codes pose as (quant_storage)
  };
  std::map<Q4Scheme, std::vector<std::uint8_t>> maps;  // by scheme; one that is not there is as usual
  std::vector<std::uint8_t> nested_map = BnbNestedMapBytes();
  DType storage = DType::kU8;  // of all others
  std::map<std::string, Weight> weights;
  // Which weight file of the source each tensor lay in, where there were several: runs over all tensors of the layout,
  // by name of the container's tensor and of a weight in the order of the layout. They end with the last tensor of the
  // model. Files are numbered from 0, and none is without a tensor.
  struct Run {
    std::uint32_t file = 0;
    std::uint64_t tensors = 0;
  };
  std::vector<Run> files;
  std::optional<IndexTotals> index;  // that the source's index said, where it is not what an export counts

  std::vector<std::uint8_t> MapOf(Q4Scheme scheme) const {
    const auto found = maps.find(scheme);
    return found == maps.end() ? BnbQuantMapBytes(scheme) : found->second;
  }
  // nullptr for one that is as usual.
  const Weight* Find(const std::string& name) const {
    const auto found = weights.find(name);
    return found == weights.end() ? nullptr : &found->second;
  }
};

// What the model records, held against its tensors: a text must describe the tensor as it is. `document`: its
// provenance, of the right form. Errors: kQ4ProvenanceForm (exit code 6).
absl::StatusOr<BnbRecord> BnbRecordOf(const Q4Model& model, const Json& document);
// The same for whoever has not read the provenance; of a model where nothing is taken over it is not read.
absl::StatusOr<BnbRecord> ReadBnbRecord(const Q4Model& model);

}  // namespace q4
