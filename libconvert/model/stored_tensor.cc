#include "libconvert/model/stored_tensor.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <utility>

#include "formats/base/status.h"
#include "formats/q4/parts.h"
#include "kernels/kernels.h"
#include "libconvert/model/bnb_weights.h"
#include "libconvert/model/model_issues.h"

namespace q4 {
namespace {

class ContainerParts final : public TensorParts {
 public:
  ContainerParts(const Q4Reader& reader, const Q4Tensor& tensor) : reader_(reader), tensor_(tensor) {}

  absl::StatusOr<std::vector<std::uint8_t>> Read(Q4Part part, std::uint64_t begin, std::uint64_t bytes) const override {
    const std::uint64_t chunk_bytes = Q4ChunkRawSize(part);
    const std::uint64_t end = begin + bytes;
    std::vector<std::uint8_t> read;
    read.reserve(bytes);
    while (begin < end) {
      const std::uint64_t at = begin / chunk_bytes;
      Q4_ASSIGN_OR_RETURN(std::vector<std::uint8_t> chunk, reader_.ReadChunk(tensor_.Part(part)->first_chunk + at));
      if (read.empty() && begin % chunk_bytes == 0 && chunk.size() == bytes) return chunk;
      const std::uint64_t until = std::min(end, (at + 1) * chunk_bytes);
      const auto from = chunk.begin() + static_cast<std::ptrdiff_t>(begin % chunk_bytes);
      read.insert(read.end(), from, from + static_cast<std::ptrdiff_t>(until - begin));
      begin = until;
    }
    return read;
  }

 private:
  const Q4Reader& reader_;
  const Q4Tensor& tensor_;
};

// Each part is a tensor of the checkpoint.
class CheckpointParts final : public TensorParts {
 public:
  using PartTensors = std::vector<std::pair<Q4Part, const TensorInfo*>>;
  CheckpointParts(const Checkpoint& checkpoint, PartTensors tensors)
      : checkpoint_(checkpoint), tensors_(std::move(tensors)) {}

  absl::StatusOr<std::vector<std::uint8_t>> Read(Q4Part part, std::uint64_t begin, std::uint64_t bytes) const override {
    const auto tensor =
        std::find_if(tensors_.begin(), tensors_.end(), [part](const auto& entry) { return entry.first == part; });
    std::vector<std::uint8_t> read(bytes);
    Q4_RETURN_IF_ERROR(checkpoint_.Read(*tensor->second, begin, read));
    return read;
  }

 private:
  const Checkpoint& checkpoint_;
  const PartTensors tensors_;
};

ReadableTensor PlainTensor(const Checkpoint& checkpoint, const TensorInfo& info) {
  ReadableTensor plain;
  plain.tensor.name = info.name;
  plain.tensor.dtype = info.dtype;
  plain.tensor.shape = info.shape;
  plain.tensor.elems = info.elems;
  plain.parts = std::make_unique<CheckpointParts>(checkpoint, CheckpointParts::PartTensors{{Q4Part::kData, &info}});
  return plain;
}

}  // namespace

std::unique_ptr<TensorParts> PartsInContainer(const Q4Reader& reader, const Q4Tensor& tensor) {
  return std::make_unique<ContainerParts>(reader, tensor);
}

absl::StatusOr<std::vector<ReadableTensor>> TensorsOf(const Checkpoint& checkpoint) {
  Q4_ASSIGN_OR_RETURN(const std::vector<BnbWeight> weights, FindBnbWeights(checkpoint));
  std::vector<ReadableTensor> tensors;
  std::set<const TensorInfo*> belong;  // to a weight
  for (const BnbWeight& weight : weights) {
    Q4_RETURN_IF_ERROR(CheckBnbWeight(checkpoint, weight));
    const std::vector<const TensorInfo*> all = weight.tensors();
    belong.insert(all.begin(), all.end());
    CheckpointParts::PartTensors parts = {{Q4Part::kCodes, weight.codes}};
    if (weight.state.nested) {
      parts.insert(parts.end(), {{Q4Part::kScaleCodes, weight.absmax}, {Q4Part::kScales2, weight.nested_absmax}});
    } else {
      parts.emplace_back(Q4Part::kScales, weight.absmax);
    }
    tensors.push_back({Q4TensorOf(weight), std::make_unique<CheckpointParts>(checkpoint, std::move(parts))});
  }
  for (const TensorInfo& info : checkpoint.tensors()) {
    if (!belong.contains(&info)) tensors.push_back(PlainTensor(checkpoint, info));
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const ReadableTensor& a, const ReadableTensor& b) { return a.tensor.name < b.tensor.name; });
  const auto twice = std::adjacent_find(tensors.begin(), tensors.end(),
                                        [](const auto& a, const auto& b) { return a.tensor.name == b.tensor.name; });
  if (twice != tensors.end()) {
    return Fail(kBnbWeight, checkpoint.path(), "tensor '" + twice->tensor.name + "'", "it has two descriptions");
  }
  return tensors;
}

absl::StatusOr<std::vector<float>> ReadDecodedScales(const Q4Tensor& tensor, const TensorParts& parts,
                                                     std::uint64_t first, std::uint64_t count) {
  const auto read_floats = [&](Q4Part part, std::uint64_t begin,
                               std::uint64_t floats) -> absl::StatusOr<std::vector<float>> {
    Q4_ASSIGN_OR_RETURN(const auto bytes, parts.Read(part, begin * sizeof(float), floats * sizeof(float)));
    std::vector<float> values(floats);
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  };
  if (!tensor.nested) return read_floats(Q4Part::kScales, first, count);
  const std::uint64_t group = first / kScaleGroup, skipped = first % kScaleGroup;
  const std::uint64_t blocks = skipped + count;  // decoding begins with a whole group
  Q4_ASSIGN_OR_RETURN(const auto codes, parts.Read(Q4Part::kScaleCodes, group * kScaleGroup, blocks));
  Q4_ASSIGN_OR_RETURN(const auto scales2, read_floats(Q4Part::kScales2, group, GroupCount(blocks)));
  std::vector<float> scales(blocks);
  BestCpuKernels().dequantize_scales(codes.data(), scales2.data(), blocks, tensor.nested_offset, scales.data());
  scales.erase(scales.begin(), scales.begin() + static_cast<std::ptrdiff_t>(skipped));
  return scales;
}

}  // namespace q4
