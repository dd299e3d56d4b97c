// Order of things: version and counts; the key-values, each complete in itself, of which only the few that the reader
// needs are kept (KeyValues); the descriptions of the tensors; names; how the tensors lie in the data section
// (PlaceTensors()); and last whether all are of types that are read, so that a malformed file is never called a
// quantized one.
#include "formats/gguf/gguf.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "formats/base/byte_writer.h"
#include "formats/base/checked_math.h"
#include "formats/base/counted.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/gguf/gguf_input.h"
#include "formats/gguf/gguf_issues.h"
#include "formats/gguf/gguf_types.h"

namespace q4 {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
// The shortest key-value: a key of one byte, its type, and a value of one byte.
constexpr std::uint64_t kLeastKeyValueBytes = 8 + 1 + 4 + 1;
// The shortest description: a name of one byte, one dimension, type, offset.
constexpr std::uint64_t kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;
constexpr std::uint64_t kMostKeyBytes = 65'535;
constexpr std::uint64_t kUsualAlignment = 32;

// Types of values by their numbers.
enum ValueType : std::uint32_t { kUint32 = 4, kFloat32 = 6, kBoolean = 7, kString = 8, kArray = 9, kFloat64 = 12 };
// Bytes of a value of each; 0 for those that say their own length.
constexpr std::uint64_t kValueBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
constexpr bool kIsSigned[] = {false, true, false, true, false, true, false, false, false, false, false, true, false};

bool IsInteger(std::uint32_t type) {
  return type != kFloat32 && type != kBoolean && type != kString && type != kArray && type != kFloat64;
}

std::string Bytes(std::uint64_t bytes) { return std::to_string(bytes) + " bytes"; }

bool IsPlainText(const std::string& text) { return IsUtf8(text) && text.find('\0') == std::string::npos; }

// Reads the key-values of one file.
class KeyValues {
 public:
  KeyValues(const RandomAccessFile& file, GgufInput* in, GgufHeader* header) : file_(file), in_(*in), out_(*header) {}

  absl::Status Read(std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) Q4_RETURN_IF_ERROR(ReadOne());
    if (split_count_ < 2) return absl::OkStatus();
    if (!split_number_ || *split_number_ >= split_count_) {
      return Fail(kGgufValue, file_.path(), "split.no",
                  GotExpected(split_number_ ? std::to_string(*split_number_) : "none",
                              "less than split.count, " + std::to_string(split_count_)));
    }
    out_.split = GgufSplit{*split_number_, split_count_, split_tensors_};
    return absl::OkStatus();
  }

  std::uint64_t alignment() const { return alignment_; }

 private:
  absl::Status ReadOne() {
    const std::uint64_t begin = in_.offset(), length = in_.U64();
    Q4_RETURN_IF_ERROR(in_.status());
    if (length == 0 || length > kMostKeyBytes)
      return Fail(kGgufKey, file_.path(), AtOffset(begin), "got " + Bytes(length));
    key_ = in_.Text(length);
    const std::uint32_t type = in_.U32();
    Q4_RETURN_IF_ERROR(in_.status());
    if (!IsPlainText(key_)) return Fail(kGgufKey, file_.path(), AtOffset(begin), "got '" + key_ + "'");
    key_bytes_ += length;
    if (key_bytes_ > limits::kGgufKeyBytes) {
      return Fail(kGgufLimit, file_.path(), AtOffset(begin), "keys of at most " + Bytes(limits::kGgufKeyBytes));
    }
    if (!keys_.insert(key_).second) return Fail(kGgufKey, file_.path(), key_, "it is given twice");
    Q4_RETURN_IF_ERROR(ReadValue(type));
    if (key_ != "general.alignment" && !key_.starts_with("split.")) {
      if (out_.keys.size() < GgufHeader::kMostKeys) out_.keys.push_back(key_);
      ++out_.said_keys;
      out_.said_bytes += in_.offset() - begin;
    }
    return absl::OkStatus();
  }

  absl::Status ReadValue(std::uint32_t type) {
    if (type >= std::size(kValueBytes)) return Fail(kGgufValue, file_.path(), key_, "got type " + std::to_string(type));
    if (std::string* text = TextOf(key_); text != nullptr) {
      if (type != kString) return WrongType(type, "a STRING");
      return ReadString(text);
    }
    if (key_ == "general.alignment") {
      // Of this key GGML asks for the very type.
      if (type != kUint32) return Fail(kGgufAlignment, file_.path(), key_, "got type " + std::to_string(type));
      alignment_ = in_.U32();
      Q4_RETURN_IF_ERROR(in_.status());
      const bool power = (alignment_ & (alignment_ - 1)) == 0;
      if (power && alignment_ >= limits::kGgufLeastAlignment && alignment_ <= limits::kGgufMostAlignment) {
        return absl::OkStatus();
      }
      return Fail(kGgufAlignment, file_.path(), key_, "got " + std::to_string(alignment_));
    }
    if (key_ == "split.no" || key_ == "split.count" || key_ == "split.tensors.count") {
      if (!IsInteger(type)) return WrongType(type, "an integer");
      std::uint64_t value = 0;
      Q4_RETURN_IF_ERROR(ReadCount(type, &value));
      if (key_ == "split.count") {
        split_count_ = value;
      } else {
        (key_ == "split.no" ? split_number_ : split_tensors_) = value;
      }
      return absl::OkStatus();
    }
    if (type == kString) return ReadString(nullptr);
    if (type == kArray) return ReadArray();
    return PassScalars(type, 1);
  }

  // Where the value of a key that is kept goes, or nullptr.
  std::string* TextOf(std::string_view key) {
    if (key == "general.architecture") return &out_.architecture;
    if (key == "general.type") return &out_.type;
    if (key == "general.name") return &out_.name;
    return key == "adapter.type" ? &out_.adapter_type : nullptr;
  }

  absl::Status WrongType(std::uint32_t type, std::string_view expected) {
    return Fail(kGgufValue, file_.path(), key_, GotExpected("type " + std::to_string(type), expected));
  }

  // An integer of any width that is not negative.
  absl::Status ReadCount(std::uint32_t type, std::uint64_t* value) {
    std::uint64_t bytes = kValueBytes[type], high = 0;
    for (std::uint64_t i = 0; i < bytes; ++i) {
      high = in_.U8();
      *value |= high << (8 * i);
    }
    Q4_RETURN_IF_ERROR(in_.status());
    if (kIsSigned[type] && (high & 0x80) != 0) return Fail(kGgufValue, file_.path(), key_, "it is negative");
    return absl::OkStatus();
  }

  // Keeps the first bytes in `*text`, unless it is nullptr.
  absl::Status ReadString(std::string* text) {
    const std::uint64_t at = in_.offset(), length = in_.U64();  // 0 where the file ends in it
    if (length > in_.remaining()) return TooLong(at, "a text of " + Bytes(length));
    if (length > limits::kGgufStringBytes) {
      return Fail(kGgufLimit, file_.path(), key_,
                  GotExpected("a text of " + Bytes(length), "at most " + Bytes(limits::kGgufStringBytes)));
    }
    const std::uint64_t kept = text == nullptr ? 0 : std::min(length, GgufHeader::kMostNameBytes);
    if (text != nullptr) *text = in_.Text(kept);
    in_.Skip(length - kept);
    return in_.status();
  }

  absl::Status ReadArray() {
    const std::uint64_t at = in_.offset();
    const std::uint32_t type = in_.U32();
    const std::uint64_t count = in_.U64();
    Q4_RETURN_IF_ERROR(in_.status());
    if (type >= std::size(kValueBytes) || type == kArray) {
      return Fail(kGgufValue, file_.path(), key_, "got an array of type " + std::to_string(type));
    }
    const std::uint64_t least = type == kString ? 8 : kValueBytes[type];
    // Divided, for the product could wrap.
    if (count > in_.remaining() / least) return TooLong(at, "an array of " + std::to_string(count));
    if (count > limits::kGgufArrayElements) {
      return Fail(kGgufLimit, file_.path(), key_,
                  GotExpected("an array of " + std::to_string(count),
                              "at most " + std::to_string(limits::kGgufArrayElements) + " elements"));
    }
    if (type != kString) return PassScalars(type, count);
    for (std::uint64_t i = 0; i < count; ++i) Q4_RETURN_IF_ERROR(ReadString(nullptr));
    return absl::OkStatus();
  }

  absl::Status PassScalars(std::uint32_t type, std::uint64_t count) {
    if (type != kBoolean) {
      in_.Skip(count * kValueBytes[type]);  // of an array that was held against what remains
      return in_.status();
    }
    while (count > 0) {
      const std::span<const std::uint8_t> piece = in_.Some(count);
      Q4_RETURN_IF_ERROR(in_.status());
      const auto wrong = std::find_if(piece.begin(), piece.end(), [](std::uint8_t value) { return value > 1; });
      if (wrong != piece.end()) {
        return Fail(kGgufValue, file_.path(), key_, GotExpected("a BOOL of " + std::to_string(*wrong), "0 or 1"));
      }
      count -= piece.size();
    }
    return absl::OkStatus();
  }

  absl::Status TooLong(std::uint64_t at, const std::string& what) {
    return Fail(kGgufEndsEarly, file_.path(), AtOffset(at),
                key_ + ": " + GotExpected(what, "at most the " + Bytes(in_.remaining()) + " that remain"));
  }

  const RandomAccessFile& file_;
  GgufInput& in_;
  GgufHeader& out_;
  std::string key_;  // the one being read
  std::set<std::string> keys_;
  std::uint64_t key_bytes_ = 0;
  std::uint64_t alignment_ = kUsualAlignment;
  std::uint64_t split_count_ = 0;
  std::optional<std::uint64_t> split_number_, split_tensors_;
};

// A tensor as the list describes it, and the type that decides about its bytes.
struct Described {
  SourceTensor tensor;  // its extent begins where the list says, from the beginning of the data section
  const GgufType* type = nullptr;
};

absl::StatusOr<Described> ReadTensor(const RandomAccessFile& file, GgufInput& in) {
  const std::uint64_t begin = in.offset(), length = in.U64();
  Q4_RETURN_IF_ERROR(in.status());
  const auto broken = [&](const std::string& where, const std::string& detail) {
    return Fail(kGgufTensor, file.path(), where, detail);
  };
  if (length == 0 || length > limits::kTensorNameBytes)
    return broken(AtOffset(begin), "got a name of " + Bytes(length));
  Described out;
  SourceTensor& tensor = out.tensor;
  tensor.name = in.Text(length);
  const std::uint32_t dimensions = in.U32();
  Q4_RETURN_IF_ERROR(in.status());
  if (!IsPlainText(tensor.name)) return broken(AtOffset(begin), "got '" + tensor.name + "'");
  if (dimensions == 0 || dimensions > limits::kGgufDimensions) {
    return broken(tensor.name, "got " + std::to_string(dimensions) + " dimensions");
  }
  for (std::uint32_t i = 0; i < dimensions; ++i) tensor.shape.push_back(in.U64());
  const std::uint64_t row = tensor.shape.front();  // elements that lie side by side
  std::reverse(tensor.shape.begin(), tensor.shape.end());
  const std::uint32_t number = in.U32();
  const std::uint64_t offset = in.U64();
  Q4_RETURN_IF_ERROR(in.status());
  if (!CountElements(tensor.shape, &tensor.elems)) return broken(tensor.name, "got shape " + ShapeString(tensor.shape));
  out.type = FindGgufType(number);
  if (out.type == nullptr) return Fail(kGgufTensorType, file.path(), tensor.name, "got type " + std::to_string(number));
  if (row % out.type->block_elems != 0) {
    return Fail(kGgufTensorType, file.path(), tensor.name,
                GotExpected("rows of " + std::to_string(row), "multiples of " + std::to_string(out.type->block_elems) +
                                                                  " for " + std::string(out.type->name)));
  }
  tensor.dtype = out.type->dtype.value_or(DType::kU8);
  // Blocks are no larger than 4 bytes an element, so that the product of less than 2^48 fits.
  if (!CheckedMul(tensor.elems / out.type->block_elems, out.type->block_bytes, &tensor.bytes)) {
    return broken(tensor.name, "got shape " + ShapeString(tensor.shape));
  }
  tensor.extents.assign(1, {0, offset, tensor.bytes});
  return out;
}

absl::Status CheckNames(const RandomAccessFile& file, const std::vector<Described>& tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const Described& described : tensors) names.push_back(described.tensor.name);
  std::sort(names.begin(), names.end());
  const auto twin = std::adjacent_find(names.begin(), names.end());
  return twin == names.end() ? absl::OkStatus() : Fail(kGgufTensor, file.path(), *twin, "duplicate name");
}

// Holds the places against each other and against the file, and counts them from its beginning. `header_end`: behind
// the last description.
absl::Status PlaceTensors(const RandomAccessFile& file, std::uint64_t header_end, std::uint64_t alignment,
                          std::vector<Described>* tensors) {
  const auto too_large = [&](const std::string& where) {
    return Fail(kGgufOffset, file.path(), where, "size overflow");
  };
  std::uint64_t begin = 0;
  if (!CheckedAlignUp(header_end, alignment, &begin)) return too_large("");
  std::uint64_t next = 0, end = 0;  // from `begin` on: where the next one belongs, and where the last one ends
  for (Described& described : *tensors) {
    SourceTensor& tensor = described.tensor;
    SourceExtent& place = tensor.extents.front();
    if (place.offset != next) {
      return Fail(kGgufOffset, file.path(), tensor.name,
                  GotExpected("offset " + std::to_string(place.offset), std::to_string(next)));
    }
    if (!CheckedAdd(next, tensor.bytes, &end) || !CheckedAlignUp(end, alignment, &next)) return too_large(tensor.name);
  }
  // A file without data may end with its header; else the last padding may be missing, as llama.cpp does not need it.
  std::uint64_t data_end = header_end, most = begin;
  if (end != 0 && (!CheckedAdd(begin, end, &data_end) || !CheckedAdd(begin, next, &most))) return too_large("");
  if (file.size() < data_end || file.size() > most) {
    const bool is_short = file.size() < data_end;
    return Fail(kGgufDataSize, file.path(), {},
                GotExpected("a file of " + Bytes(file.size()),
                            Bytes(is_short ? data_end : most) +
                                (is_short ? "; the file was cut off: copy or download it again" : " at most")));
  }
  for (Described& described : *tensors) {
    SourceExtent& place = described.tensor.extents.front();
    // Of an empty tensor the place may lie in a padding that is not there.
    place.offset = place.bytes == 0 ? std::min(begin + place.offset, file.size()) : begin + place.offset;
  }
  return absl::OkStatus();
}

// Names the types and the first tensors of each. A text of bounded length, whatever the names are.
absl::Status CheckTypes(const RandomAccessFile& file, const std::vector<Described>& tensors) {
  constexpr std::size_t kTypesShown = 4, kNamesShown = 2, kNameBytes = 40;
  struct OfType {
    std::string names;
    std::uint64_t count = 0;
  };
  std::map<std::uint32_t, OfType> types;
  const GgufType* most = nullptr;
  for (const Described& described : tensors) {
    if (described.type->dtype) continue;
    OfType& of = types[described.type->number];
    const std::string& name = described.tensor.name;
    if (++of.count <= kNamesShown) {
      of.names += (of.count == 1 ? "" : ", ") + (name.size() > kNameBytes ? name.substr(0, kNameBytes) + "..." : name);
    }
    if (most == nullptr || of.count > types[most->number].count) most = described.type;
  }
  if (most == nullptr) return absl::OkStatus();
  std::string text;
  std::size_t shown = 0;
  for (const auto& [number, of] : types) {
    if (shown++ == kTypesShown) break;
    text += (shown == 1 ? "" : "; ") + std::string(FindGgufType(number)->name) + ": " + Counted(of.count, "tensor") +
            ", " + of.names + (of.count > kNamesShown ? ", ..." : "");
  }
  if (types.size() > kTypesShown) text += "; and " + std::to_string(types.size() - kTypesShown) + " more types";
  return Fail(kGgufQuantized, file.path(), most->name, text);
}

// The two counts cannot be believed before the file could hold as many.
absl::Status CheckCount(const RandomAccessFile& file, std::string_view what, std::uint64_t count,
                        std::uint64_t remaining, std::uint64_t least_bytes, std::uint64_t limit) {
  const std::uint64_t holds = remaining / least_bytes;
  if (count > holds) {
    return Fail(kGgufEndsEarly, file.path(), what,
                GotExpected(std::to_string(count), "at most " + std::to_string(holds) + " in " + Bytes(remaining)));
  }
  if (count <= limit) return absl::OkStatus();
  return Fail(kGgufLimit, file.path(), what, GotExpected(std::to_string(count), "at most " + std::to_string(limit)));
}

absl::Status CheckVersion(const RandomAccessFile& file, std::uint32_t magic, std::uint32_t version) {
  if (magic == kMagic && (version == 2 || version == 3)) return absl::OkStatus();
  std::string got = "no GGUF magic";
  if (magic == kMagic) {
    const bool big = version == 0x02000000 || version == 0x03000000;
    got = big ? "a big-endian file" : "version " + std::to_string(version);
    if (version == 1) got += "; write it again with a recent llama.cpp";
  }
  return Fail(kGgufVersion, file.path(), "version", "got " + got);
}

}  // namespace

bool IsGgufFormat(std::string_view format) {
  return format.starts_with(kGgufFormat) && (format.size() == kGgufFormat.size() || format[kGgufFormat.size()] == '-');
}

absl::StatusOr<GgufHeader> ReadGgufHeader(const RandomAccessFile& file) {
  GgufInput in(file);
  GgufHeader header;
  const std::uint32_t magic = in.U32();
  header.version = in.U32();
  Q4_RETURN_IF_ERROR(in.status());
  Q4_RETURN_IF_ERROR(CheckVersion(file, magic, header.version));
  const std::uint64_t tensors = in.U64();
  header.key_values = in.U64();
  Q4_RETURN_IF_ERROR(in.status());
  Q4_RETURN_IF_ERROR(CheckCount(file, "number of key-values", header.key_values, in.remaining(), kLeastKeyValueBytes,
                                limits::kGgufKeyValues));
  Q4_RETURN_IF_ERROR(
      CheckCount(file, "number of tensors", tensors, in.remaining(), kLeastTensorBytes, limits::kTensorsPerCheckpoint));
  header.key_values_begin = in.offset();
  KeyValues key_values(file, &in, &header);
  Q4_RETURN_IF_ERROR(key_values.Read(header.key_values));
  header.key_values_end = in.offset();
  std::vector<Described> described;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    Q4_ASSIGN_OR_RETURN(described.emplace_back(), ReadTensor(file, in));
  }
  Q4_RETURN_IF_ERROR(CheckNames(file, described));
  Q4_RETURN_IF_ERROR(PlaceTensors(file, in.offset(), key_values.alignment(), &described));
  Q4_RETURN_IF_ERROR(CheckTypes(file, described));
  header.tensors.reserve(described.size());
  for (Described& tensor : described) header.tensors.push_back(std::move(tensor.tensor));
  return header;
}

std::string GgufMetadataHead(const GgufHeader& header) {
  ByteWriter out;
  out.U32(kMagic);
  out.U32(header.version);
  out.U64(0);
  out.U64(header.key_values);
  return {out.bytes().begin(), out.bytes().end()};
}

}  // namespace q4
