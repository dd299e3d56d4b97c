#include "libconvert/model/bnb_quant_state.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "fmt/format.h"
#include "formats/base/checked_math.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/exchange/bnb.h"

namespace q4 {
namespace {

constexpr int kDepth = 3;

// The members that bitsandbytes writes; its loader asserts on any other.
constexpr std::array<std::string_view, 7> kMembers = {"quant_type",       "blocksize",    "dtype",        "shape",
                                                      "nested_blocksize", "nested_dtype", "nested_offset"};

std::string TextOf(const Json* value) {
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

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

// An empty text if all is well.
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
  if (block_size == nullptr || !block_size->is_number_unsigned() || !IsBlockSize(block_size->get<std::uint64_t>())) {
    return "blocksize is not 32, 64, ... 4096";
  }
  state->block_size = static_cast<std::uint32_t>(block_size->get<std::uint64_t>());
  if (!ParseShape(FindMember(json, "shape"), state)) return "shape is not a list of dimensions";

  const Json* nested = FindMember(json, "nested_blocksize");
  state->nested = nested != nullptr;
  if (!state->nested) return {};
  const Json* offset = FindMember(json, "nested_offset");
  if (!nested->is_number_unsigned() || nested->get<std::uint64_t>() != kScaleGroup) {
    return fmt::format("nested_blocksize is not {}", kScaleGroup);
  }
  if (offset == nullptr || !offset->is_number()) return "nested_offset is not a number";
  state->nested_block_size = nested->get<std::uint64_t>();
  state->nested_offset = offset->get<double>();
  return {};
}

}  // namespace

std::optional<BnbQuantState> ParseBnbQuantState(std::string_view text, std::string* problem) {
  const absl::StatusOr<Json> json = ParseJson(text, {}, kDepth);
  if (!json.ok()) {
    *problem = MessageOf(json.status());
    return std::nullopt;
  }
  BnbQuantState state;
  *problem = Fill(*json, &state);
  if (!problem->empty()) return std::nullopt;
  return state;
}

bool IsSameBnbTable(std::span<const float> got, std::span<const float> expected) {
  return std::equal(got.begin(), got.end(), expected.begin(), expected.end(),
                    [](float a, float b) { return std::fabs(a - b) <= 1e-6f; });
}

}  // namespace q4
