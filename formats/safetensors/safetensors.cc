// Order of things: the header length against the file size; the JSON, entry by entry, each entry complete in itself
// (HeaderHandler); duplicate names; then how the tensors cover the payload (PlaceTensors()). Only validated numbers are
// added or multiplied.
//
// The header is parsed as a stream, so it never lies in memory whole; what is kept of it is bounded by limits.h. Every
// rule has its own issue, and the first one that is broken ends the reading.
#include "formats/safetensors/safetensors.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/byte_reader.h"
#include "formats/base/checked_math.h"
#include "formats/base/json_parser.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/safetensors/safetensors_issues.h"
#include "formats/safetensors/sniff.h"

namespace q4 {
namespace {

// Of the header length, before the JSON. Positions in messages about the JSON count from the beginning of the file.
constexpr std::uint64_t kLengthBytes = 8;
// What to do about a file that is shorter than it says.
constexpr char kCutOff[] = "; the file was cut off: copy or download it again";
constexpr std::string_view kMetadataKey = "__metadata__";

// Types of the format that q4 does not carry: those of less than a byte, whose elements do not begin at byte
// boundaries, and the FNUZ variants.
bool IsUnsupportedDType(std::string_view name) {
  return name == "F4" || name == "F6_E2M3" || name == "F6_E3M2" || name == "F8_E4M3FNUZ" || name == "F8_E5M2FNUZ";
}

// Turns the header's JSON events into SourceTensor. Offsets stay relative to the payload. A state machine: `state_`
// says where in the document the next event is, and thereby which events are accepted. The parser guarantees that
// containers are well nested and that a value follows each key; so an end always closes what the state stands for.
class HeaderHandler final : public JsonHandler {
 public:
  HeaderHandler(std::string_view file, const MetadataKept& kept) : file_(file), kept_(kept) {}

  // After a parse without error. Leaves payload_offset to the caller.
  SafetensorsHeader TakeHeader() { return std::move(header_); }

  absl::Status OnStart(JsonContainer container) override {
    const bool object = container == JsonContainer::kObject;
    switch (state_) {
      case State::kDocument:
        if (!object) return Fail(kStNotAnObject, file_, {}, GotExpected("an array", "an object"));
        state_ = State::kOuter;
        return absl::OkStatus();
      case State::kMetadata:
        if (!object) return Fail(kStMetadata, file_, kMetadataKey, "got an array");
        state_ = State::kMetadataMembers;
        return absl::OkStatus();
      case State::kEntry:
        if (!object) return Fail(kStEntry, file_, tensor_.name, "got an array");
        state_ = State::kMembers;
        return absl::OkStatus();
      case State::kShape:
        if (object) return Fail(kStShape, file_, tensor_.name, "got an object");
        state_ = State::kShapeItems;
        return absl::OkStatus();
      case State::kOffsets:
        if (object) return Fail(kStOffsets, file_, tensor_.name, "got an object");
        state_ = State::kOffsetItems;
        return absl::OkStatus();
      default:
        return Misplaced(object ? "an object" : "an array");
    }
  }

  absl::Status OnKey(std::string key) override {
    switch (state_) {
      case State::kOuter:
        return OnOuterKey(std::move(key));
      case State::kMetadataMembers:
        // Counted before it is kept. Of a key that comes twice readers take the last, and nothing hangs on it.
        ++header_.metadata_entries;
        kept_metadata_bytes_ += key.size();
        keeps_entry_ = kept_metadata_bytes_ <= kept_.total_bytes;
        if (keeps_entry_) header_.metadata.emplace_back(std::move(key), std::string());
        return absl::OkStatus();
      default:
        break;
    }
    // Here the state is kMembers: an entry's object. No member may come twice, and none may be unknown, for a later
    // version of the format might mean something by it.
    bool* has = nullptr;
    if (key == "dtype") {
      state_ = State::kDType;
      has = &has_dtype_;
    } else if (key == "shape") {
      state_ = State::kShape;
      has = &has_shape_;
    } else if (key == "data_offsets") {
      state_ = State::kOffsets;
      has = &has_offsets_;
    } else {
      return Fail(kStEntry, file_, tensor_.name, "got field '" + key + "'");
    }
    return std::exchange(*has, true) ? Fail(kJsonDuplicateKey, file_, tensor_.name, "'" + key + "'") : absl::OkStatus();
  }

  absl::Status OnScalar(JsonScalar scalar) override {
    const std::string_view kind = JsonKindName(scalar.kind);
    const bool is_unsigned = scalar.kind == JsonScalar::Kind::kUnsigned;
    switch (state_) {
      case State::kDocument:
        return Fail(kStNotAnObject, file_, {}, GotExpected(kind, "an object"));
      case State::kMetadataMembers:
        if (scalar.kind != JsonScalar::Kind::kString) return Fail(kStMetadata, file_, kMetadataKey, GotKind(kind));
        header_.metadata_bytes += scalar.text_bytes;
        if (keeps_entry_ && kept_metadata_bytes_ + scalar.text.size() <= kept_.total_bytes) {
          kept_metadata_bytes_ += scalar.text.size();
          header_.metadata.back().second = std::move(scalar.text);
        }
        return absl::OkStatus();
      case State::kMetadata:
        // As the reference reader: null stands for none.
        if (scalar.kind != JsonScalar::Kind::kNull) return Misplaced(kind);
        state_ = State::kOuter;
        return absl::OkStatus();
      case State::kDType:
        if (scalar.kind != JsonScalar::Kind::kString) return Fail(kStDType, file_, tensor_.name, GotKind(kind));
        state_ = State::kMembers;
        return OnDType(scalar.text);
      case State::kShapeItems:
        if (!is_unsigned) return Fail(kStShape, file_, tensor_.name, GotKind(kind));
        // Before it grows: the array may be as long as the header.
        if (tensor_.shape.size() == limits::kTensorDimensions) {
          return Fail(kTooManyDimensions, file_, tensor_.name, "at most " + std::to_string(limits::kTensorDimensions));
        }
        tensor_.shape.push_back(scalar.unsigned_value);
        return absl::OkStatus();
      case State::kOffsetItems:
        if (!is_unsigned) return Fail(kStOffsets, file_, tensor_.name, GotKind(kind));
        if (offset_count_ == offsets_.size()) return Fail(kStOffsets, file_, tensor_.name, "got more than two");
        offsets_[offset_count_++] = scalar.unsigned_value;
        return absl::OkStatus();
      default:
        return Misplaced(kind);
    }
  }

  absl::Status OnEnd(JsonContainer) override {
    switch (state_) {
      case State::kShapeItems:
      case State::kOffsetItems:
        state_ = State::kMembers;
        return absl::OkStatus();
      case State::kMetadataMembers:
        state_ = State::kOuter;
        return absl::OkStatus();
      case State::kMembers:
        state_ = State::kOuter;
        // All members are known only here; they come in any order.
        return FinishEntry();
      default:
        return absl::OkStatus();  // the document's own end
    }
  }

 private:
  enum class State {
    kDocument,         // before the outermost object
    kOuter,            // in it
    kMetadata,         // __metadata__ was read
    kMetadataMembers,  // in its object
    kEntry,            // a tensor's name was read
    kMembers,          // in its object
    kDType,
    kShape,
    kOffsets,  // the name of that member was read
    kShapeItems,
    kOffsetItems,  // in its array
  };

  static std::string GotKind(std::string_view kind) { return "got " + std::string(kind); }

  // A value of a kind that its place does not allow, where not even the kind of container was right. The issue is that
  // of the member which it should have been.
  absl::Status Misplaced(std::string_view kind) const {
    switch (state_) {
      case State::kMetadata:
      case State::kMetadataMembers:
        return Fail(kStMetadata, file_, kMetadataKey, GotKind(kind));
      case State::kDType:
        return Fail(kStDType, file_, tensor_.name, GotKind(kind));
      case State::kShape:
      case State::kShapeItems:
        return Fail(kStShape, file_, tensor_.name, GotKind(kind));
      case State::kOffsets:
      case State::kOffsetItems:
        return Fail(kStOffsets, file_, tensor_.name, GotKind(kind));
      default:
        return Fail(kStEntry, file_, tensor_.name, GotKind(kind));
    }
  }

  // A tensor's name, or __metadata__. The parser leaves duplicates to this reader: tensors are compared when all are
  // there (CheckUniqueNames()), __metadata__ here.
  absl::Status OnOuterKey(std::string key) {
    if (key == kMetadataKey) {
      if (std::exchange(has_metadata_, true)) return Fail(kStMetadata, file_, kMetadataKey, "it is given twice");
      state_ = State::kMetadata;
      return absl::OkStatus();
    }
    if (key.empty() || key.size() > limits::kTensorNameBytes || key.find('\0') != std::string::npos) {
      // A long one has come shortened, at the start of a character.
      const bool whole = key.size() + 4 < limits::kMetadataValueBytes;
      return Fail(kTensorName, file_, key, "got " + std::to_string(key.size()) + (whole ? " bytes" : " bytes or more"));
    }
    // Bounds the memory: the header may be 100 MB of empty entries.
    if (header_.tensors.size() == limits::kTensorsPerCheckpoint) {
      return Fail(kTooManyTensors, file_, {}, "at most " + std::to_string(limits::kTensorsPerCheckpoint));
    }
    // Nothing of the entry before may be left, else a missing member would go unnoticed.
    tensor_ = SourceTensor();
    tensor_.name = std::move(key);
    has_dtype_ = has_shape_ = has_offsets_ = false;
    offset_count_ = 0;
    state_ = State::kEntry;
    return absl::OkStatus();
  }

  absl::Status OnDType(const std::string& name) {
    if (ParseDTypeName(name, &tensor_.dtype)) return absl::OkStatus();
    const Issue& issue = IsUnsupportedDType(name) ? kUnsupportedDType : kStDType;
    return Fail(issue, file_, tensor_.name, "got '" + name + "'");
  }

  // Checks an entry against itself. The number of elements comes first, for it bounds what is multiplied; that the
  // range lies in the file is for PlaceTensors(), which knows the size.
  absl::Status FinishEntry() {
    if (!has_dtype_ || !has_shape_ || !has_offsets_) {
      const std::string_view missing = !has_dtype_ ? "dtype" : !has_shape_ ? "shape" : "data_offsets";
      return Fail(kStEntry, file_, tensor_.name, std::string(missing) + " is missing");
    }
    if (!CountElements(tensor_.shape, &tensor_.elems) ||
        !CheckedMul(tensor_.elems, ItemSize(tensor_.dtype), &tensor_.bytes)) {
      return Fail(kTensorTooLarge, file_, tensor_.name, "got shape " + ShapeString(tensor_.shape));
    }
    if (offset_count_ != offsets_.size()) return Fail(kStOffsets, file_, tensor_.name, "got fewer than two");
    const auto [begin, end] = offsets_;
    if (begin > end) {
      return Fail(kStOffsets, file_, tensor_.name, "begin " + std::to_string(begin) + " > end " + std::to_string(end));
    }
    // Shape and dtype decide; offsets that claim anything else would make readers disagree on the elements.
    if (end - begin != tensor_.bytes) {
      return Fail(kStSizeMismatch, file_, tensor_.name,
                  GotExpected(std::to_string(end - begin) + " bytes", std::to_string(tensor_.bytes) + " for " +
                                                                          std::string(DTypeName(tensor_.dtype)) + " " +
                                                                          ShapeString(tensor_.shape)));
    }
    // The file is 0 here; of a shard OpenShards() sets it.
    tensor_.extents.assign(1, {0, begin, tensor_.bytes});
    header_.tensors.push_back(std::move(tensor_));
    return absl::OkStatus();
  }

  std::string_view file_;
  const MetadataKept kept_;
  SafetensorsHeader header_;
  State state_ = State::kDocument;
  bool has_metadata_ = false;
  bool keeps_entry_ = false;               // whether the last key of __metadata__ was kept
  std::uint64_t kept_metadata_bytes_ = 0;  // one sum over keys and values, so that many small ones are bounded too
  // The entry being read.
  SourceTensor tensor_;
  std::array<std::uint64_t, 2> offsets_{};
  std::size_t offset_count_ = 0;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
};

// Sorts numbers and not tensors, whose order is still that of the header. A set of all names would double their memory.
absl::Status CheckUniqueNames(const std::vector<SourceTensor>& tensors, std::string_view file) {
  std::vector<std::uint32_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return tensors[a].name < tensors[b].name; });
  const auto twin = std::adjacent_find(
      order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return tensors[a].name == tensors[b].name; });
  return twin == order.end() ? absl::OkStatus() : Fail(kDuplicateTensor, file, tensors[*twin].name);
}

// Sorts the tensors by position, checks that they cover the payload without gap and overlap, and makes their offsets
// absolute. One walk shows all: each tensor must begin where the one before it ended, the last one must end with the
// file. `payload_offset` <= `file_bytes`, as CheckLength() has made sure.
absl::Status PlaceTensors(std::uint64_t payload_offset, std::uint64_t file_bytes, std::string_view file,
                          std::vector<SourceTensor>* tensors) {
  // A tensor without bytes may share its position with the one that follows. Names make the order unique.
  std::sort(tensors->begin(), tensors->end(), [](const SourceTensor& a, const SourceTensor& b) {
    if (a.place().offset != b.place().offset) return a.place().offset < b.place().offset;
    return a.bytes != b.bytes ? a.bytes < b.bytes : a.name < b.name;
  });
  const std::uint64_t payload_bytes = file_bytes - payload_offset;
  std::uint64_t end = 0;
  for (SourceTensor& tensor : *tensors) {
    SourceExtent& place = tensor.extents.front();
    if (place.offset != end) {
      return Fail(place.offset < end ? kStOverlap : kStHole, file, tensor.name,
                  "begin " + GotExpected(std::to_string(place.offset), std::to_string(end)));
    }
    // Cannot wrap: the entry held this sum as its end.
    end = place.end();
    if (end > payload_bytes) {
      // The last tensor says how long the file should be, unless that is a lie.
      std::uint64_t whole = std::max(end, tensors->back().place().end());
      if (!CheckedAdd(whole, payload_offset, &whole)) whole = end;
      return Fail(kStDataEndsEarly, file, tensor.name,
                  GotExpected(std::to_string(file_bytes) + " bytes", std::to_string(whole) + kCutOff));
    }
    // Within the file, hence no wrap.
    place.offset += payload_offset;
  }
  if (end != payload_bytes) {
    return Fail(kStTrailingData, file, {},
                GotExpected(std::to_string(payload_bytes) + " payload bytes", std::to_string(end)));
  }
  return absl::OkStatus();
}

// An object, or white space, which the parser accepts before one; what else begins here is no header.
bool CanBeginJson(std::uint8_t c) { return c == '{' || c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

// Checks the header length at the start of `head`, the first bytes of a file of `file_bytes`, and returns where the
// payload begins. Whatever fails here is often another kind of file, which is then named instead.
absl::StatusOr<std::uint64_t> CheckLength(std::span<const std::uint8_t> head, std::uint64_t file_bytes,
                                          std::string_view file) {
  ByteReader reader(head);
  const std::uint64_t length = reader.U64();
  // A plausible length before what may be JSON is a safetensors file, even if its first bytes happen to be the mark of
  // gzip or zip, and even if it was cut off.
  const bool is_header = head.size() > kLengthBytes && CanBeginJson(head[kLengthBytes]) && length != 0 &&
                         length <= limits::kSafetensorsHeaderBytes;
  absl::Status status;
  if (!reader.ok()) {
    status = Fail(kStHeaderTooSmall, file, {},
                  file_bytes == 0 ? "the file is empty: copy or download it again"
                                  : GotExpected(std::to_string(file_bytes) + " bytes", "at least 8"));
  } else if (length == 0) {
    status = Fail(kStHeaderEmpty, file, {});
  } else if (length > file_bytes - kLengthBytes) {
    status = Fail(kStHeaderExceedsFile, file, {},
                  GotExpected(std::to_string(length), "at most " + std::to_string(file_bytes - kLengthBytes)) +
                      (is_header ? kCutOff : ": this is no safetensors file"));
  } else if (length > limits::kSafetensorsHeaderBytes) {
    status = Fail(kStHeaderTooLarge, file, {},
                  GotExpected(std::to_string(length), "at most " + std::to_string(limits::kSafetensorsHeaderBytes)));
  }
  if (is_header && status.ok()) return kLengthBytes + length;
  Q4_RETURN_IF_ERROR(RefuseKind(SniffKind(head), file));
  if (!status.ok()) return status;
  return kLengthBytes + length;  // the JSON parser will say what is wrong
}

// The common way of both readers, from the JSON on. `source` delivers exactly the header; what follows the JSON object
// in it may only be white space, as the format pads with.
absl::StatusOr<SafetensorsHeader> ParseHeader(JsonSource& source, std::uint64_t payload_offset,
                                              std::uint64_t file_bytes, std::string_view file,
                                              const MetadataKept& kept) {
  const StrictJsonOptions options{.max_depth = limits::kSafetensorsJsonDepth,
                                  .max_token_bytes = limits::kSafetensorsHeaderBytes,
                                  .keep_string_bytes = kept.value_bytes,
                                  .base_offset = kLengthBytes};
  HeaderHandler handler(file, kept);
  Q4_RETURN_IF_ERROR(ParsePlainJson(source, file, options, handler));
  SafetensorsHeader header = handler.TakeHeader();
  header.payload_offset = payload_offset;
  Q4_RETURN_IF_ERROR(CheckUniqueNames(header.tensors, file));
  Q4_RETURN_IF_ERROR(PlaceTensors(payload_offset, file_bytes, file, &header.tensors));
  return header;
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensors(std::span<const std::uint8_t> bytes, std::string_view file) {
  const auto head = bytes.first(std::min(bytes.size(), kSniffBytes));
  Q4_ASSIGN_OR_RETURN(const std::uint64_t payload_offset, CheckLength(head, bytes.size(), file));
  // CheckLength() has made sure that the header lies inside.
  const auto json = bytes.subspan(kLengthBytes, static_cast<std::size_t>(payload_offset - kLengthBytes));
  JsonText source({reinterpret_cast<const char*>(json.data()), json.size()});
  return ParseHeader(source, payload_offset, bytes.size(), file, {});
}

absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const RandomAccessFile& file, const MetadataKept& kept) {
  std::vector<std::uint8_t> head(static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), kSniffBytes)));
  Q4_RETURN_IF_ERROR(file.ReadAt(0, head));
  Q4_ASSIGN_OR_RETURN(const std::uint64_t payload_offset, CheckLength(head, file.size(), file.path()));
  JsonFile source(file, kLengthBytes, payload_offset);
  return ParseHeader(source, payload_offset, file.size(), file.path(), kept);
}

}  // namespace q4
