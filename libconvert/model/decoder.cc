// A block's scale needs one item of the part kScales, or one scale code and the group scale of its 256 blocks. The
// kernel that decodes nested scales goes group by group from its first argument on. A range that begins inside a group
// is therefore extended to the beginning of that group, decoded there, and cut to what was asked for at the end.
#include "libconvert/model/decoder.h"

#include "formats/base/status.h"
#include "libconvert/scheme/scheme.h"
#include "libconvert/scheme/stored_scales.h"

namespace q4 {

absl::StatusOr<BlockScales> TensorDecoder::ReadScales(std::uint64_t first, std::uint64_t count) const {
  BlockScales scales;
  StoredScales stored;
  stored.nested = tensor_.nested;
  // `skipped` blocks lie in the first group before the wanted ones: at most 255, of nested scales alone.
  const std::uint64_t group = first / kScaleGroup, skipped = tensor_.nested ? first % kScaleGroup : 0;
  const std::uint64_t blocks = skipped + count;
  if (tensor_.nested) {
    // Scale codes have one byte a block, so that block numbers are byte offsets here.
    Q4_ASSIGN_OR_RETURN(scales.codes_, parts_.Read(Q4Part::kScaleCodes, first - skipped, blocks));
    Q4_ASSIGN_OR_RETURN(scales.groups_,
                        parts_.Read(Q4Part::kScales2, group * sizeof(float), GroupCount(blocks) * sizeof(float)));
    stored.scale_codes = scales.codes_.data();
    stored.group_scales = scales.groups_.floats().data();
    stored.offset = tensor_.nested_offset;
    scales.scale_codes = scales.codes_.bytes().subspan(skipped);
    scales.group_scales = scales.groups_.floats();
  } else {
    Q4_ASSIGN_OR_RETURN(scales.fp32_, parts_.Read(Q4Part::kScales, first * sizeof(float), count * sizeof(float)));
    stored.scales = scales.fp32_.floats().data();
  }
  // DecodedScales() writes to memory_ for nested scales and returns fp32 scales where they are, which are never
  // skipped.
  scales.decoded = {DecodedScales(kernels_, stored, blocks, &scales.memory_) + skipped, count};
  return scales;
}

absl::StatusOr<PartBytes> TensorDecoder::ReadCodes(std::uint64_t first, std::uint64_t count) const {
  return parts_.Read(Q4Part::kCodes, first / 2, PackedBytes(count));
}

void TensorDecoder::Decode(const std::uint8_t* codes, const float* decoded_scales, std::uint64_t count, FloatType type,
                           void* out) const {
  kernels_.dequantize(CodeBookOf(tensor_), codes, decoded_scales, count, tensor_.block_size, type, out);
}

}  // namespace q4
