// Three readers behind one interface. In a container a part lies in chunks, which are decompressed and checked against
// their digests as a whole, so a range is cut out of one or put together from several. In a checkpoint the parts of a
// bitsandbytes weight are tensors of their own, read byte by byte, and a kept tensor's elements come from SourceReader.
// Checkpoint tensors are described as Q4Tensor without chunks, which is enough to decode them.
#include "libconvert/model/stored_tensor.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "formats/base/status.h"
#include "formats/q4/parts.h"
#include "libconvert/model/bnb_weights.h"
#include "libconvert/model/model_issues.h"
#include "libconvert/source/source_reader.h"

namespace q4 {
namespace {

// Each part of a bitsandbytes weight is a tensor of the checkpoint, read as bytes: packed codes may be stored as any
// type. Thread-safe, as reading a checkpoint is.
class CheckpointPartReader final : public PartReader {
 public:
  using PartTensors = std::vector<std::pair<Q4Part, const SourceTensor*>>;
  CheckpointPartReader(const Checkpoint& checkpoint, PartTensors tensors)
      : checkpoint_(checkpoint), tensors_(std::move(tensors)) {}

  absl::StatusOr<PartBytes> Read(Q4Part part, std::uint64_t begin, std::uint64_t bytes) const override {
    // At most three entries. The part is among them, as the caller promises.
    const auto tensor =
        std::find_if(tensors_.begin(), tensors_.end(), [part](const auto& entry) { return entry.first == part; });
    std::vector<std::uint8_t> read(bytes);
    Q4_RETURN_IF_ERROR(checkpoint_.Read(*tensor->second, begin, read));
    return PartBytes(std::move(read));
  }

 private:
  const Checkpoint& checkpoint_;
  const PartTensors tensors_;
};

// A tensor of the checkpoint that is kept, however it is stored: its only part is its elements.
class CheckpointElements final : public PartReader {
 public:
  CheckpointElements(const Checkpoint& checkpoint, const SourceTensor& tensor) : reader_(checkpoint), tensor_(tensor) {}

  absl::StatusOr<PartBytes> Read(Q4Part, std::uint64_t begin, std::uint64_t bytes) const override {
    std::vector<std::uint8_t> read(bytes);
    Q4_RETURN_IF_ERROR(reader_.Read(tensor_, begin / ItemSize(tensor_.dtype), read));
    return PartBytes(std::move(read));
  }

 private:
  const SourceReader reader_;
  const SourceTensor& tensor_;
};

ReadableTensor PlainTensor(const Checkpoint& checkpoint, const SourceTensor& info) {
  ReadableTensor plain;
  plain.tensor.name = info.name;
  plain.tensor.dtype = info.dtype;
  plain.tensor.shape = info.shape;
  plain.tensor.elems = info.elems;
  plain.parts = std::make_unique<CheckpointElements>(checkpoint, info);
  return plain;
}

}  // namespace

absl::StatusOr<ChunkCache::Bytes> ContainerPartReader::Chunk(std::uint64_t chunk) const {
  if (cache_ != nullptr) return cache_->Get(reader_, chunk);
  Q4_ASSIGN_OR_RETURN(std::vector<std::uint8_t> bytes, reader_.ReadChunk(chunk));
  return std::make_shared<const std::vector<std::uint8_t>>(std::move(bytes));
}

absl::StatusOr<PartBytes> ContainerPartReader::Read(Q4Part part, std::uint64_t begin, std::uint64_t bytes) const {
  // A part of an empty tensor has no chunk that could be read.
  if (bytes == 0) return PartBytes();
  const std::uint64_t chunk_size = Q4ChunkRawSize(part), first_chunk = tensor_.Part(part)->first_chunk;
  const std::uint64_t end = begin + bytes;
  std::vector<std::uint8_t> read;  // of a range in several chunks
  // One turn a chunk. Most ranges lie in one chunk and leave in the first turn, sharing its memory.
  while (begin < end) {
    // Every chunk but the part's last has the same raw size, so that the position follows from a division.
    const std::uint64_t at = begin / chunk_size, from = begin % chunk_size;
    Q4_ASSIGN_OR_RETURN(ChunkCache::Bytes chunk, Chunk(first_chunk + at));
    const std::uint64_t until = std::min(end, (at + 1) * chunk_size);
    if (until - begin == bytes) return PartBytes(std::move(chunk), from, bytes);
    // Only here is it certain that the range needs memory of its own.
    read.reserve(bytes);
    const auto first = chunk->begin() + static_cast<std::ptrdiff_t>(from);
    read.insert(read.end(), first, first + static_cast<std::ptrdiff_t>(until - begin));
    begin = until;
  }
  return PartBytes(std::move(read));
}

ReadableTensor ReadableFrom(const Q4Model& model, const Q4Model::Location& at) {
  const Q4Tensor& tensor = model.tensor(at);
  return {tensor, std::make_unique<ContainerPartReader>(model.reader(at), tensor)};
}

absl::StatusOr<std::vector<ReadableTensor>> TensorsOf(const Checkpoint& checkpoint) {
  Q4_ASSIGN_OR_RETURN(const std::vector<BnbWeight> weights, FindBnbWeights(checkpoint));
  std::vector<ReadableTensor> tensors;
  std::set<const SourceTensor*> belong;  // to a weight
  for (const BnbWeight& weight : weights) {
    Q4_RETURN_IF_ERROR(CheckBnbWeight(checkpoint, weight));
    const std::vector<const SourceTensor*> all = weight.tensors();
    belong.insert(all.begin(), all.end());
    CheckpointPartReader::PartTensors parts = {{Q4Part::kCodes, weight.codes}};
    if (weight.state.nested) {
      parts.insert(parts.end(), {{Q4Part::kScaleCodes, weight.absmax}, {Q4Part::kScales2, weight.nested_absmax}});
    } else {
      parts.emplace_back(Q4Part::kScales, weight.absmax);
    }
    tensors.push_back({Q4TensorOf(weight), std::make_unique<CheckpointPartReader>(checkpoint, std::move(parts))});
  }
  // What belongs to no weight is listed as it is, which includes the remains of weights without a usable description.
  for (const SourceTensor& info : checkpoint.tensors()) {
    if (!belong.contains(&info)) tensors.push_back(PlainTensor(checkpoint, info));
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const ReadableTensor& a, const ReadableTensor& b) { return a.tensor.name < b.tensor.name; });
  // Two quant_state tensors, nf4 and fp4, can describe one weight. Which of them holds is not known, so neither is
  // taken.
  const auto twice = std::adjacent_find(tensors.begin(), tensors.end(),
                                        [](const auto& a, const auto& b) { return a.tensor.name == b.tensor.name; });
  if (twice != tensors.end()) {
    return Fail(kBnbWeight, checkpoint.path(), "tensor '" + twice->tensor.name + "'", "it has two descriptions");
  }
  return tensors;
}

}  // namespace q4
