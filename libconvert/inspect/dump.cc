// DumpTensor(): decodes a range of elements, from the chunks that hold it, and puts each into words. The range is
// extended to the begin of its first block, so that codes begin with a byte and scales with a block; the elements
// before it are decoded and not shown.
#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>
#include <utility>

#include "fmt/format.h"
#include "formats/base/checked_math.h"
#include "formats/base/status.h"
#include "libconvert/inspect/inspect.h"
#include "libconvert/inspect/inspect_issues.h"
#include "libconvert/model/decoder.h"
#include "libconvert/model/open_model.h"
#include "libconvert/scheme/slab.h"

namespace q4 {
namespace {

// Decodes ranges of one tensor, of a container or a checkpoint.
class RangeDecoder {
 public:
  RangeDecoder(const KernelTable& kernels, const ReadableTensor& from)
      : kernels_(kernels), tensor_(from.tensor), parts_(*from.parts), decoder_(kernels, tensor_, parts_) {}

  // Elements [start, start + count). REQUIRES: the range lies inside the tensor and is not empty.
  absl::StatusOr<std::vector<DumpValue>> Decode(std::uint64_t start, std::uint64_t count) const {
    return !tensor_.quantized() ? DecodeRaw(start, count) : DecodeQuantized(start, count);
  }

 private:
  absl::StatusOr<std::vector<DumpValue>> DecodeQuantized(std::uint64_t start, std::uint64_t count) const {
    const std::uint64_t first_block = start / tensor_.block_size;
    // Even, as every block size is, so that it begins a byte.
    const std::uint64_t first = first_block * tensor_.block_size;
    // Decoded from the block's begin on, shown from `start` on.
    const std::uint64_t elems = start + count - first;
    const std::uint64_t blocks = BlockCount(elems, tensor_.block_size);
    // Both may reach over several chunks.
    Q4_ASSIGN_OR_RETURN(const PartBytes packed, decoder_.ReadCodes(first, elems));
    Q4_ASSIGN_OR_RETURN(const BlockScales scales, decoder_.ReadScales(first_block, blocks));
    const std::uint64_t item = ItemSize(tensor_.dtype);
    std::vector<std::uint8_t> decoded(elems * item);
    const std::uint8_t* const codes = packed.data();
    // To the tensor's own dtype: what is shown is what a loader gets, rounding included.
    decoder_.Decode(codes, scales.decoded.data(), elems, FloatTypeOf(tensor_.dtype), decoded.data());
    std::vector<DumpValue> values;
    values.reserve(count);
    for (std::uint64_t i = start - first; i < elems; ++i) {
      // The earlier code of a byte lies in its high half (Q3.1).
      const int shift = i % 2 == 0 ? 4 : 0;
      values.push_back({first + i, codes[i / 2] >> shift & 15, scales.decoded[i / tensor_.block_size],
                        TextOf(decoded.data() + i * item)});
    }
    return values;
  }

  absl::StatusOr<std::vector<DumpValue>> DecodeRaw(std::uint64_t start, std::uint64_t count) const {
    const std::uint64_t item = ItemSize(tensor_.dtype);
    Q4_ASSIGN_OR_RETURN(const PartBytes bytes, parts_.Read(Q4Part::kData, start * item, count * item));
    std::vector<DumpValue> values;
    values.reserve(count);
    // A kept tensor has neither code nor scale.
    for (std::uint64_t i = 0; i < count; ++i) values.push_back({start + i, -1, 0, TextOf(bytes.data() + i * item)});
    return values;
  }

  // Items may lie unaligned in the bytes of a part.
  template <typename T>
  static T As(const std::uint8_t* bytes) {
    T value;
    std::memcpy(&value, bytes, sizeof value);
    return value;
  }

  // One element as text. Floats get the shortest text that reads back equal in their own type; fmt prints it so.
  std::string TextOf(const std::uint8_t* bytes) const {
    switch (tensor_.dtype) {
      case DType::kF32:
        return fmt::to_string(As<float>(bytes));
      case DType::kF64:
        return fmt::to_string(As<double>(bytes));
      case DType::kF16:
      case DType::kBF16: {
        // Widening is exact, so the shortest text of the fp32 number reads back equal too.
        float value;
        kernels_.convert(FloatTypeOf(tensor_.dtype), bytes, 1, FloatType::kF32, &value);
        return fmt::to_string(value);
      }
      // Other bytes than 0 and 1 are no error here: a dump shows what is there.
      case DType::kBool:
        return bytes[0] == 0 ? "false" : bytes[0] == 1 ? "true" : fmt::format("0x{:02x}", bytes[0]);
      case DType::kU8:
        return std::to_string(bytes[0]);
      case DType::kI8:
        return std::to_string(As<std::int8_t>(bytes));
      case DType::kU16:
        return std::to_string(As<std::uint16_t>(bytes));
      case DType::kI16:
        return std::to_string(As<std::int16_t>(bytes));
      case DType::kU32:
        return std::to_string(As<std::uint32_t>(bytes));
      case DType::kI32:
        return std::to_string(As<std::int32_t>(bytes));
      case DType::kU64:
        return std::to_string(As<std::uint64_t>(bytes));
      case DType::kI64:
        return std::to_string(As<std::int64_t>(bytes));
      // These have no number in C++: the byte itself is shown.
      case DType::kF8E4M3:
      case DType::kF8E5M2:
      case DType::kF8E8M0:
        return fmt::format("0x{:02x}", bytes[0]);
      // Real part, imaginary part.
      case DType::kC64:
        return fmt::format("{}, {}i", As<float>(bytes), As<float>(bytes + sizeof(float)));
    }
    return {};
  }

  const KernelTable& kernels_;
  const Q4Tensor& tensor_;
  const PartReader& parts_;
  const TensorDecoder decoder_;
};

}  // namespace

absl::StatusOr<std::vector<DumpValue>> DumpTensor(const OpenedModel& model, const std::string& name,
                                                  std::uint64_t start, std::uint64_t count,
                                                  const KernelTable& kernels) {
  Q4_ASSIGN_OR_RETURN(const std::optional<ReadableTensor> found, FindTensor(model, name));
  if (!found) return Fail(kNoSuchTensor, model.path, name);
  const std::uint64_t elems = found->tensor.elems;
  // RangeFits() is safe from overflow: both numbers come from the command line.
  if (count == 0 || count > kMaxDump || !RangeFits(start, count, elems)) {
    return Fail(
        kBadDumpRange, model.path, name,
        GotExpected(fmt::format("{}:{}", start, count), fmt::format("at most {} of {} elements", kMaxDump, elems)));
  }
  // Decoding needs it; opening and reading do not.
  const ScopedFloatEnvironment environment;
  return RangeDecoder(kernels, *found).Decode(start, count);
}

absl::StatusOr<DumpRange> ParseDumpRange(const std::string& text) {
  DumpRange range;
  const char* const end = text.data() + text.size();
  // from_chars takes no sign, blanks or locale, and reports numbers above 64 bits.
  const auto start = std::from_chars(text.data(), end, range.start);
  if (start.ec == std::errc() && start.ptr != end && *start.ptr == ':') {
    // The whole rest must be the number.
    const auto count = std::from_chars(start.ptr + 1, end, range.count);
    if (count.ec == std::errc() && count.ptr == end) return range;
  }
  return Fail(kBadDumpRange, {}, "--dump", GotExpected(text, "two numbers, like 0:64"));
}

}  // namespace q4
