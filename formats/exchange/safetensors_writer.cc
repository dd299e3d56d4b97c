// PlanSafetensors(): sort, write the entries while counting offsets, pad, then shift all offsets by the length of the
// header. Order, padding and escapes are those of the safetensors library's own writer; tests/cli/export_roundtrip.sh
// compares whole files. The entries are written as text directly, for a JSON library would order and escape them its
// own way.
#include "formats/exchange/safetensors_writer.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <numeric>
#include <string_view>

#include "formats/base/byte_writer.h"
#include "formats/base/checked_math.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/source/checkpoint_issues.h"

namespace q4 {
namespace {

// The library's. As the largest elements lie first, each tensor then begins at a multiple of its item size.
constexpr std::uint64_t kHeaderAlignment = 8;

// The library's order: 8 bytes per element first, 1 byte last. Every DType is in it, so each one is found below.
constexpr std::array<DType, kMaxDType> kDTypeOrder = {
    DType::kU64,    DType::kI64,    DType::kF64, DType::kC64, DType::kF32, DType::kU32,
    DType::kI32,    DType::kBF16,   DType::kF16, DType::kU16, DType::kI16, DType::kF8E8M0,
    DType::kF8E4M3, DType::kF8E5M2, DType::kI8,  DType::kU8,  DType::kBool};

std::ptrdiff_t DTypeRank(DType dtype) {
  return std::find(kDTypeOrder.begin(), kDTypeOrder.end(), dtype) - kDTypeOrder.begin();
}

// A JSON string with only the escapes that JSON requires; all else, DEL and beyond ASCII too, stays UTF-8.
void AppendJsonString(std::string_view text, std::string* out) {
  *out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\b':
        *out += "\\b";
        break;
      case '\f':
        *out += "\\f";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          std::array<char, 7> escape{};
          std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(c));
          *out += escape.data();
        } else {
          *out += c;
        }
    }
  }
  *out += '"';
}

void AppendEntry(const SafetensorsTensor& tensor, std::uint64_t begin, std::uint64_t end, std::string* out) {
  *out += ',';
  AppendJsonString(tensor.name, out);
  out->append(":{\"dtype\":\"").append(DTypeName(tensor.dtype)).append("\",\"shape\":[");
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    if (i != 0) *out += ',';
    *out += std::to_string(tensor.shape[i]);
  }
  out->append("],\"data_offsets\":[")
      .append(std::to_string(begin))
      .append(",")
      .append(std::to_string(end))
      .append("]}");
}

// What readers refuse of a tensor on its own. The name "__metadata__" would be taken for the metadata.
absl::Status CheckTensor(const SafetensorsTensor& tensor) {
  const std::string& name = tensor.name;
  const bool fits = !name.empty() && name.size() <= limits::kTensorNameBytes;
  if (!fits || !IsUtf8(name) || name.find('\0') != std::string::npos || name == "__metadata__") {
    return Fail(kTensorName, {}, name);
  }
  if (tensor.shape.size() > limits::kTensorDimensions) return Fail(kTooManyDimensions, {}, name);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsLayout> PlanSafetensors(std::span<const SafetensorsTensor> tensors,
                                                  std::string_view more_metadata) {
  SafetensorsLayout layout;
  layout.file_order.resize(tensors.size());
  std::iota(layout.file_order.begin(), layout.file_order.end(), std::size_t{0});
  std::sort(layout.file_order.begin(), layout.file_order.end(), [&](std::size_t a, std::size_t b) {
    const std::ptrdiff_t rank_a = DTypeRank(tensors[a].dtype);
    const std::ptrdiff_t rank_b = DTypeRank(tensors[b].dtype);
    return rank_a != rank_b ? rank_a < rank_b : tensors[a].name < tensors[b].name;
  });

  // Offsets in the header count from the start of the payload, whose place is known only when the header is complete.
  std::string json = "{\"__metadata__\":{\"format\":\"pt\"";
  json.append(more_metadata).append("}");
  std::uint64_t end = 0;
  layout.offsets.resize(tensors.size());
  for (const std::size_t i : layout.file_order) {
    Q4_RETURN_IF_ERROR(CheckTensor(tensors[i]));
    const std::uint64_t begin = end;
    std::uint64_t elems = 0;
    std::uint64_t bytes = 0;
    if (!CountElements(tensors[i].shape, &elems) || !CheckedMul(elems, ItemSize(tensors[i].dtype), &bytes) ||
        !CheckedAdd(begin, bytes, &end)) {
      return Fail(kTensorTooLarge, {}, tensors[i].name, "got shape " + ShapeString(tensors[i].shape));
    }
    layout.offsets[i] = begin;
    AppendEntry(tensors[i], begin, end, &json);
  }
  json += '}';
  json.append((kHeaderAlignment - json.size() % kHeaderAlignment) % kHeaderAlignment, ' ');
  if (json.size() > limits::kSafetensorsHeaderBytes) {
    return Fail(kStHeaderTooLarge, {}, {},
                GotExpected(std::to_string(json.size()), "at most " + std::to_string(limits::kSafetensorsHeaderBytes)));
  }

  // Equal names may differ in dtype and so lie far apart.
  std::vector<std::string_view> names;
  for (const SafetensorsTensor& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twin = std::adjacent_find(names.begin(), names.end());
  if (twin != names.end()) return Fail(kDuplicateTensor, {}, *twin);

  ByteWriter length;
  length.U64(json.size());
  layout.header.assign(length.bytes().begin(), length.bytes().end());
  layout.header += json;
  for (std::uint64_t& offset : layout.offsets) offset += layout.header.size();
  layout.file_bytes = end + layout.header.size();
  return layout;
}

}  // namespace q4
