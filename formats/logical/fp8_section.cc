// Members of a quantization_config that tell how 8-bit floats are to be read. What they do not tell is told by the
// tensors (fp8.cc), so that a section without any of them is one as well.
#include "formats/logical/fp8_section.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/logical/logical_issues.h"

namespace q4 {
namespace {

// No dimension is larger.
constexpr std::uint64_t kMostRows = std::uint64_t{1} << 48;

// "bfloat16", with "torch." before it where a writer of old left that.
std::optional<DType> DTypeOfTorchName(std::string_view name) {
  if (name.starts_with("torch.")) name.remove_prefix(6);
  constexpr std::array<std::pair<std::string_view, DType>, 3> kNames = {
      {{"bfloat16", DType::kBF16}, {"float16", DType::kF16}, {"float32", DType::kF32}}};
  for (const auto& [known, dtype] : kNames) {
    if (name == known) return dtype;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> SizeOf(const Json& value) {
  if (!value.is_number_unsigned() && !(value.is_number_integer() && value.get<std::int64_t>() > 0)) return std::nullopt;
  const auto size = value.get<std::uint64_t>();
  return size > 0 && size <= kMostRows ? std::optional(size) : std::nullopt;
}

// [128, 128]; compressed-tensors also takes "128x128".
std::optional<BlockSize> BlockSizeOf(const Json& value) {
  if (value.is_array() && value.size() == 2) {
    const auto rows = SizeOf(value[0]), columns = SizeOf(value[1]);
    if (rows && columns) return BlockSize(*rows, *columns);
  }
  if (value.is_string()) {
    const std::string& text = value.text();
    const char* end = text.data() + text.size();
    BlockSize block(0, 0);
    const auto rows = std::from_chars(text.data(), end, block.first);
    if (rows.ec == std::errc() && rows.ptr != end && *rows.ptr == 'x') {
      const auto columns = std::from_chars(rows.ptr + 1, end, block.second);
      const auto fits = [](std::uint64_t size) { return size > 0 && size <= kMostRows; };
      if (columns.ec == std::errc() && columns.ptr == end && fits(block.first) && fits(block.second)) return block;
    }
  }
  return std::nullopt;
}

absl::Status AddBlockSize(const Json& holder, const char* key, std::string_view file, const std::string& place,
                          Fp8Section* out) {
  const Json* value = FindMember(holder, key);
  if (value == nullptr || value->is_null()) return absl::OkStatus();
  const auto block = BlockSizeOf(*value);
  if (!block) {
    return Fail(kFp8BlockSize, file, fmt::format("{}.{}", place, key),
                GotExpected(Printable(value->dump(), 80),
                            "[rows, columns] as of the scales, such as [128, 128]; "
                            "or remove the member where there are no blocks"));
  }
  if (std::find(out->blocks.begin(), out->blocks.end(), *block) == out->blocks.end()) out->blocks.push_back(*block);
  return absl::OkStatus();
}

}  // namespace

DType ModelDType(const Json& config) {
  for (const Json* part : {&config, FindMember(config, "text_config")}) {
    if (part == nullptr) continue;
    for (const char* key : {"dtype", "torch_dtype"}) {
      const Json* name = FindMember(*part, key);
      if (name == nullptr || !name->is_string()) continue;
      if (const auto dtype = DTypeOfTorchName(name->text())) return *dtype;
    }
  }
  return DType::kBF16;
}

bool HasRotations(const Json& section) {
  const Json* transform = FindMember(section, "transform_config");
  const Json* rotations = transform != nullptr ? FindMember(*transform, "config_groups") : nullptr;
  return rotations != nullptr && !rotations->empty();
}

absl::Status ReadFp8Section(const Json& section, std::string_view file, std::string_view place, Fp8Section* out) {
  out->claimed = true;
  const std::string path(place);
  Q4_RETURN_IF_ERROR(AddBlockSize(section, "weight_block_size", file, path, out));
  const Json* groups = FindMember(section, "config_groups");
  if (groups != nullptr && groups->is_object()) {
    for (const auto& [name, group] : groups->items()) {
      const Json* weights = FindMember(group, "weights");
      if (weights == nullptr) continue;
      Q4_RETURN_IF_ERROR(
          AddBlockSize(*weights, "block_structure", file, fmt::format("{}.config_groups.{}.weights", path, name), out));
    }
  }
  if (HasRotations(section)) {
    return Fail(kFp8Form, file, path + ".transform_config",
                "the weights are rotated; convert the checkpoint that it was made from");
  }
  return absl::OkStatus();
}

}  // namespace q4
