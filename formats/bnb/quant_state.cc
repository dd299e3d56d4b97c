// The text comes with a published checkpoint and is not trusted: depth is limited before parsing, every member is
// looked up with its type, and sizes are checked for overflow. The rules are those of the library's loader, which
// asserts on members that it does not know.
//
// Checks go from the whole to the details, and the first that fails gives the reason.
#include "formats/bnb/quant_state.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "fmt/format.h"
#include "formats/base/checked_math.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/bnb/layout.h"
#include "formats/q4/parts.h"

namespace q4 {
namespace {

// The object, the list of dimensions in it, and one to spare.
constexpr int kDepth = 3;

// The members that bitsandbytes writes; its loader asserts on any other.
constexpr std::array<std::string_view, 7> kMembers = {"quant_type",       "blocksize",    "dtype",        "shape",
                                                      "nested_blocksize", "nested_dtype", "nested_offset"};

// "" stands for absent and for another type; neither is a name that is looked for.
std::string TextOf(const Json* value) {
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

// Untrusted dimensions: their number is limited, and their product must fit 64 bits.
bool ParseShape(const Json* shape, BnbQuantState* state) {
  if (shape == nullptr || !shape->is_array() || shape->size() > static_cast<std::size_t>(limits::kTensorDimensions)) {
    return false;
  }
  for (const Json& dim : *shape) {
    if (!dim.is_number_unsigned()) return false;
    state->shape.push_back(dim.get<std::uint64_t>());
  }
  return CountElements(state->shape, &state->elems);
}

// Says what is wrong with the description; "" if all is well and *state is filled.
std::string Fill(const Json& json, BnbQuantState* state) {
  if (!json.is_object()) return "not a JSON object";
  for (const auto& [key, value] : json.items()) {
    if (std::find(kMembers.begin(), kMembers.end(), key) == kMembers.end()) return "unknown member '" + key + "'";
  }
  const std::string type = TextOf(FindMember(json, "quant_type"));
  const std::optional<Q4Scheme> scheme = SchemeOfBnbType(type);
  if (!scheme) return "quant_type " + GotExpected("'" + type + "'", "nf4 or fp4");
  state->scheme = *scheme;

  const std::string dtype = TextOf(FindMember(json, "dtype"));
  // Spelled as torch spells them, without its "torch." before.
  if (dtype == "float32") {
    state->dtype = DType::kF32;
  } else if (dtype == "float16") {
    state->dtype = DType::kF16;
  } else if (dtype == "bfloat16") {
    state->dtype = DType::kBF16;
  } else {
    return "dtype " + GotExpected("'" + dtype + "'", "float32, float16 or bfloat16");
  }
  const Json* block_size = FindMember(json, "blocksize");
  // The same sizes that a container takes: powers of two. is_number_unsigned() refuses negative numbers and fractions.
  if (block_size == nullptr || !block_size->is_number_unsigned() || !IsQ4BlockSize(block_size->get<std::uint64_t>())) {
    return "blocksize is not 32, 64, ... 4096";
  }
  state->block_size = static_cast<std::uint32_t>(block_size->get<std::uint64_t>());
  if (!ParseShape(FindMember(json, "shape"), state)) return "shape is not a list of dimensions";

  // The library writes these members only for nested scales, so their presence is the mark.
  const Json* nested = FindMember(json, "nested_blocksize");
  state->nested = nested != nullptr;
  if (!state->nested) {
    for (const char* member : {"nested_dtype", "nested_offset"}) {
      if (FindMember(json, member) != nullptr) return fmt::format("{} without nested_blocksize", member);
    }
    return {};
  }
  const Json* offset = FindMember(json, "nested_offset");
  // Another group size would need other kernels; the library itself always writes 256.
  if (!nested->is_number_unsigned() || nested->get<std::uint64_t>() != kQ4BlocksPerGroup) {
    return fmt::format("nested_blocksize is not {}", kQ4BlocksPerGroup);
  }
  if (offset == nullptr || !offset->is_number()) return "nested_offset is not a number";
  if (const std::string scales = TextOf(FindMember(json, "nested_dtype")); scales != "float32") {
    return "nested_dtype " + GotExpected("'" + scales + "'", "float32");
  }
  state->nested_block_size = nested->get<std::uint64_t>();
  state->nested_offset = offset->get<double>();
  return {};
}

}  // namespace

std::optional<BnbQuantState> ParseBnbQuantState(std::string_view text, std::string* problem) {
  const absl::StatusOr<Json> json = ParseJson(text, {}, kDepth);
  if (!json.ok()) {
    *problem = "it is no JSON text";
    return std::nullopt;
  }
  BnbQuantState state;
  *problem = Fill(*json, &state);
  if (!problem->empty()) return std::nullopt;
  return state;
}

bool IsSameBnbTable(std::span<const float> got, std::span<const float> expected) {
  // Relative, for the smallest entries are a millionth of the largest. A NaN is never equal.
  return std::equal(got.begin(), got.end(), expected.begin(), expected.end(),
                    [](float a, float b) { return std::fabs(a - b) <= 1e-6f * std::fabs(b); });
}

}  // namespace q4
