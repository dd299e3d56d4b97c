// A bitsandbytes weight is recognised by any of its parts, so that a part whose weight is missing is found as well as a
// weight whose part is missing.
//
// formats/bnb/layout.h has the table of parts. Tensors are first gathered by the name of their weight. Then each
// weight goes through checks of which each relies on those before it: parts are there, quant_state parses, sizes follow
// from it, maps, numbers. A weight that fails one is reported and not asked what it cannot answer.
//
// Parts can go missing alone. The parts of one weight may lie in different shards, so a lost shard takes the scales of
// weights whose codes are elsewhere; and a tool that filters tensors by names that end in ".weight" keeps the codes
// alone.
#include "libconvert/lint/weights.h"

#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "fmt/format.h"
#include "formats/bnb/layout.h"
#include "formats/bnb/quant_state.h"
#include "libconvert/scheme/scheme.h"
#include "libconvert/scheme/stored_scales.h"

namespace q4 {
namespace {

// transformers takes a weight without any partner as it is, and only the first forward pass fails an assertion. With
// some partners, loading fails.
constexpr LintRule kLintQuantStateMissing{
    {6511, ExitCode::kCheckFailed, "quantized weight has no quant_state"},
    "quant-state-missing",
    "Type, block size and shape are unknown: the weight cannot be decoded.",
    "Save the model again with the library that quantized it.",
};
constexpr LintRule kLintWeightMissing{
    {6512, ExitCode::kCheckFailed, "scales or quant_state without their weight"},
    "weight-missing",
    "The scales have nothing to scale; the module stays without weights.",
    "Look for the weight in another shard or under another name.",
};
constexpr LintRule kLintAbsmaxMissing{
    {6513, ExitCode::kCheckFailed, "quantized weight has no absmax"},
    "absmax-missing",
    "Without its scales the weight cannot be decoded.",
    "Look for the scales in another shard; else quantize again.",
};
// An error although the map follows from the type: the library raises a KeyError.
constexpr LintRule kLintQuantMapMissing{
    {6514, ExitCode::kCheckFailed, "quantized weight has no quant_map"},
    "quant-map-missing",
    "The bitsandbytes loader refuses the weight.",
    "Export again; the map follows from the type.",
};
constexpr LintRule kLintNestedMissing{
    {6515, ExitCode::kCheckFailed, "nested scales lack nested_absmax or nested_quant_map"},
    "nested-missing",
    "The 8-bit scales cannot be decoded.",
    "Look for the parts in another shard; else quantize again.",
};
// bitsandbytes goes by the presence of nested_absmax and then misses nested_offset in the text.
constexpr LintRule kLintNestedAbsmaxExtra{
    {6524, ExitCode::kCheckFailed, "nested_absmax of a weight whose quant_state is not nested"},
    "nested-absmax-extra",
    "The bitsandbytes loader takes the weight for nested and fails on the missing nested_offset.",
    "Find out whether the scales are nested; remove the part, or take the quant_state of the same version.",
};
// By a map alone it does not go.
constexpr LintRule kLintNestedExtra{
    {6516, ExitCode::kOk, "nested_quant_map of a weight that is not nested"},
    "nested-extra",
    "The part is ignored, or the quant_state is of another version.",
    "Find out whether the scales are nested.",
};
// The library asserts that it knows every key and looks up the dtype by name, so more and other keys are faults as
// well.
constexpr LintRule kLintQuantStateMalformed{
    {6517, ExitCode::kCheckFailed, "quant_state cannot be read"},
    "quant-state-malformed",
    "The loader cannot tell how to decode the weight.",
    "Export again; the text must be as bitsandbytes writes it.",
};
// bitsandbytes refuses the weight. Readers that look for one key or the other take what they find first: a crafted
// tensor of the second name would change what they decode.
constexpr LintRule kLintQuantStateTwice{
    {6518, ExitCode::kCheckFailed, "quantized weight has two quant_states"},
    "quant-state-twice",
    "Which of the two is believed depends on the loader.",
    "Remove the one that is of an older version.",
};
// For layouts that this project does not read: only names are compared, and nothing is said about contents.
constexpr LintRule kLintPartnerMissing{
    {6519, ExitCode::kCheckFailed, "tensor without the one it belongs to"},
    "partner-missing",
    "Codes without scales, or scales without codes, cannot be decoded.",
    "Look for the partner in another shard or under another name.",
};
constexpr LintRule kLintCodeCount{
    {6521, ExitCode::kCheckFailed, "number of codes does not fit the shape"},
    "code-count",
    "The weight was cut, or belongs to another shape.",
    "Quantize or export again.",
};
// The usual way in which a wrong block size shows: half or double the number of scales.
constexpr LintRule kLintScaleCount{
    {6522, ExitCode::kCheckFailed, "number of scales does not fit shape and block size"},
    "scale-count",
    "Scales meet the wrong blocks, or lie outside the tensor.",
    "Compare the block size with the one it was quantized with.",
};
// 16-bit scales come about when a tool casts every float tensor of a checkpoint to the model's dtype.
constexpr LintRule kLintPartType{
    {6523, ExitCode::kCheckFailed, "part of a quantized weight has the wrong dtype or size"},
    "part-type",
    "The loader reads the bytes as other numbers than were written.",
    "Export again.",
};
// The library's kernels that dequantize have both code books built in; those that multiply one vector read this tensor.
// With a wrong map, a model answers one token at a time otherwise than a whole prompt.
constexpr LintRule kLintQuantMap{
    {6535, ExitCode::kCheckFailed, "quant_map is not the code book of the stated type"},
    "quant-map",
    "Codes decode to other values than were chosen.",
    "Export again; check which type the codes are of.",
};
// A warning, for here the library does decode by the tensor: with a map of its own a weight is unusual, but consistent.
constexpr LintRule kLintNestedMap{
    {6536, ExitCode::kOk, "nested_quant_map is not the dynamic 8-bit map"},
    "nested-map",
    "Scales decode to other values than were chosen.",
    "Fine if another library made its own map; else export again.",
};
// numerics Q3.2. A hint only: no element stands behind this code, and other writers leave there what they like.
constexpr LintRule kLintPadding{
    {6545, ExitCode::kOk, "padding code after the last element is unusual"},
    "padding",
    "The code behind an odd number of elements is not zero: swapped codes, or another writer.",
    "Compare the last elements with the original.",
};

// The tensors of one weight; nullptr: not there. Pointers into LintFiles::tensors().
struct Parts {
  const SourceTensor* codes = nullptr;
  const SourceTensor* absmax = nullptr;
  const SourceTensor* quant_map = nullptr;
  const SourceTensor* nested_absmax = nullptr;
  const SourceTensor* nested_map = nullptr;
  std::vector<const SourceTensor*> states;  // more than one is a fault

  // Whether anything but a tensor of that name is there, that is, whether it is a quantized weight.
  bool any_part() const {
    return absmax != nullptr || quant_map != nullptr || nested_absmax != nullptr || nested_map != nullptr ||
           !states.empty();
  }
};

// Suffixes of BnbPart; kCodes has none, and that of kQuantState goes on with the type.
constexpr std::pair<std::string_view, const SourceTensor * Parts::*> kPartSuffixes[] = {
    {".nested_absmax", &Parts::nested_absmax},
    {".nested_quant_map", &Parts::nested_map},
    {".absmax", &Parts::absmax},
    {".quant_map", &Parts::quant_map},
};

// Tensors of other 4-bit layouts (GPTQ, AWQ, compressed-tensors, 8-bit bitsandbytes) that are of no use alone. A tensor
// whose name ends in `suffix` needs a partner: the same name with one of the other suffixes in its place. .qweight,
// .qzeros and .g_idx are of GPTQ and AWQ, .weight_... of compressed-tensors and fp8 checkpoints, .SCB of 8-bit
// bitsandbytes. AWQ has no .g_idx and compressed-tensors stores zero points only if asymmetric, so no rule asks for
// these.
struct PartnerRule {
  std::string_view suffix;
  std::array<std::string_view, 2> needs;  // one of them is enough; "": no second choice
};
constexpr PartnerRule kPartnerRules[] = {
    {".qweight", {".scales", ""}},
    {".qzeros", {".qweight", ""}},
    {".scales", {".qweight", ""}},
    {".g_idx", {".qweight", ""}},
    {".weight_packed", {".weight_scale", ""}},
    {".weight_scale", {".weight", ".weight_packed"}},
    {".weight_scale_inv", {".weight", ""}},
    {".weight_zero_point", {".weight", ".weight_packed"}},
    {".weight_shape", {".weight_packed", ""}},
    {".SCB", {".weight", ""}},
};

// One pass over the tensors of a checkpoint. References live as long as the call of LintCheckpointWeights().
class WeightLint {
 public:
  WeightLint(const KernelTable& kernels, bool searched, LintFiles* files, LintFindings* findings)
      : kernels_(kernels), searched_(searched), files_(*files), findings_(*findings) {}

  absl::StatusOr<std::vector<LintWeight>> Run() {
    // by_name_ is sorted, so findings and weights come in the order of names.
    Collect();
    for (const auto& [name, parts] : by_name_) {
      if (parts.any_part()) {
        Q4_RETURN_IF_ERROR(Quantized(name, parts));
      } else {
        Partners(*parts.codes);
        if (files_.logical() == nullptr) Q4_RETURN_IF_ERROR(Plain(*parts.codes));
      }
    }
    // Partners are a question of what the files hold; numbers and the configuration are about what that stands for.
    if (files_.logical() != nullptr) {
      for (const SourceTensor& tensor : *files_.logical()) Q4_RETURN_IF_ERROR(Plain(tensor));
    }
    return std::move(weights_);
  }

 private:
  void Collect() {
    for (const SourceTensor& tensor : files_.tensors()) {
      // By infix, not by suffix: whatever type follows, it is a quant_state, and a type that is unknown is a finding
      // later.
      const std::size_t infix = tensor.name.find(kBnbQuantStateInfix);
      if (infix != std::string::npos) {
        by_name_[tensor.name.substr(0, infix)].states.push_back(&tensor);
        continue;
      }
      bool is_part = false;
      for (const auto& [suffix, member] : kPartSuffixes) {
        if (!tensor.name.ends_with(suffix)) continue;
        by_name_[tensor.name.substr(0, tensor.name.size() - suffix.size())].*member = &tensor;
        is_part = true;
        break;
      }
      // A name that lies in two shards keeps one of them; kLintTensorTwice has told.
      if (!is_part) by_name_[tensor.name].codes = &tensor;
    }
  }

  void Partners(const SourceTensor& tensor) {
    for (const PartnerRule& rule : kPartnerRules) {
      if (!tensor.name.ends_with(rule.suffix)) continue;
      const std::string stem = tensor.name.substr(0, tensor.name.size() - rule.suffix.size());
      bool found = false;
      for (const std::string_view need : rule.needs) {
        found |= !need.empty() && files_.Find(stem + std::string(need)) != nullptr;
      }
      if (!found) findings_.Add(kLintPartnerMissing, tensor.name, "no '" + stem + std::string(rule.needs[0]) + "'");
    }
    // Shaped as bitsandbytes shapes packed codes, but there is no tensor that says how to decode them.
    if (tensor.dtype == DType::kU8 && tensor.shape.size() == 2 && tensor.shape[1] == 1 &&
        tensor.name.ends_with(".weight")) {
      findings_.Add(kLintQuantStateMissing, tensor.name, "no absmax and no quant_map either");
    }
  }

  absl::Status Plain(const SourceTensor& tensor) {
    weights_.push_back({{}, tensor.name, tensor.shape, tensor.dtype});
    // Only dtypes that the kernels convert are judged. Integers, the codes of other layouts among them, have no NaN.
    if (!IsQuantizable(tensor.dtype)) return absl::OkStatus();
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> bytes, files_.ReadStart(tensor, kLintValueBytes));
    LintPlainValues(kernels_, tensor.name, tensor.dtype, bytes, &findings_);
    return absl::OkStatus();
  }

  absl::Status Quantized(const std::string& name, const Parts& parts) {
    if (parts.codes == nullptr) {
      findings_.Add(kLintWeightMissing, name);
      return absl::OkStatus();
    }
    if (parts.absmax == nullptr) findings_.Add(kLintAbsmaxMissing, name);
    if (parts.quant_map == nullptr) findings_.Add(kLintQuantMapMissing, name);
    // Each missing part is told, since the user has to find all of them.
    if (parts.states.empty()) findings_.Add(kLintQuantStateMissing, name);
    if (parts.states.size() > 1) findings_.Add(kLintQuantStateTwice, name);
    // Without one quant_state neither shape nor block size is known, and nothing below can be asked.
    if (parts.states.size() != 1) return absl::OkStatus();

    Q4_ASSIGN_OR_RETURN(const std::optional<BnbQuantState> state, ReadState(name, *parts.states.front()));
    if (!state) return absl::OkStatus();
    // With its logical shape, so that rules on config.json see the weight as the model does.
    weights_.push_back({*state, name, state->shape, parts.codes->dtype});
    CheckNesting(name, parts, *state);
    if (!CheckSizes(name, parts, *state)) return absl::OkStatus();
    Q4_RETURN_IF_ERROR(CheckMaps(name, parts, *state));
    return CheckNumbers(name, parts, *state);
  }

  absl::StatusOr<std::optional<BnbQuantState>> ReadState(const std::string& name, const SourceTensor& tensor) {
    // Untrusted: the text is parsed as a whole, so its size is bounded first.
    if (tensor.bytes > kBnbQuantStateBytes) {
      findings_.Add(kLintQuantStateMalformed, name, fmt::format("{} bytes", tensor.bytes));
      return std::nullopt;
    }
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> text, files_.ReadStart(tensor, kBnbQuantStateBytes));
    std::string problem;
    std::optional<BnbQuantState> state =
        ParseBnbQuantState({reinterpret_cast<const char*>(text.data()), text.size()}, &problem);
    if (!state) {
      findings_.Add(kLintQuantStateMalformed, name, problem);
      // Loaders check that the key ends in a type they know and then believe the text. What others decide by the key
      // would differ.
    } else if (!tensor.name.ends_with("__" + std::string(BnbQuantTypeName(state->scheme)))) {
      findings_.Add(kLintQuantStateMalformed, name, "its key '" + tensor.name + "' names another type");
    }
    return state;
  }

  void CheckNesting(const std::string& name, const Parts& parts, const BnbQuantState& state) {
    if (state.nested && (parts.nested_absmax == nullptr || parts.nested_map == nullptr)) {
      findings_.Add(kLintNestedMissing, name,
                    parts.nested_absmax == nullptr ? "no nested_absmax" : "no nested_quant_map");
    }
    if (state.nested) return;
    if (parts.nested_absmax != nullptr) {
      findings_.Add(kLintNestedAbsmaxExtra, name);
    } else if (parts.nested_map != nullptr) {
      findings_.Add(kLintNestedExtra, name);
    }
  }

  // Whether each part that exists has the dtype and size that follow from the quant_state. Only then can the rules on
  // numbers read them.
  bool CheckSizes(const std::string& name, const Parts& parts, const BnbQuantState& state) {
    bool fits = true;
    const auto report = [&](const LintRule& rule, std::uint64_t got, std::uint64_t expected, std::string_view unit) {
      findings_.Add(rule, name, GotExpected(fmt::format("{} {}", got, unit), fmt::to_string(expected)));
      fits = false;
    };
    // Bytes, not elements: with bnb_4bit_quant_storage the codes pose as items of another dtype.
    if (parts.codes->bytes != PackedBytes(state.elems)) {
      report(kLintCodeCount, parts.codes->bytes, PackedBytes(state.elems), "bytes");
    }
    const auto check = [&](const SourceTensor* part, std::string_view what, DType dtype, std::uint64_t elems,
                           const LintRule& count_rule) {
      if (part == nullptr) return;
      if (part->dtype != dtype) {
        findings_.Add(kLintPartType, name,
                      fmt::format("{} is {}, expected {}", what, DTypeName(part->dtype), DTypeName(dtype)));
        fits = false;
      } else if (part->elems != elems) {
        report(count_rule, part->elems, elems, what);
      }
    };
    // Scales are fp32 or, if nested, 8-bit codes with a group scale for every 256 of them and a map of 256 values.
    check(parts.absmax, "absmax", state.nested ? DType::kU8 : DType::kF32, state.blocks(), kLintScaleCount);
    check(parts.quant_map, "quant_map", DType::kF32, SchemeOf(state).code_values().size(), kLintPartType);
    if (state.nested) {
      check(parts.nested_absmax, "nested_absmax", DType::kF32, GroupCount(state.blocks()), kLintScaleCount);
      check(parts.nested_map, "nested_quant_map", DType::kF32, NestedMap().size(), kLintPartType);
    }
    return fits;
  }

  absl::StatusOr<std::vector<float>> ReadFloats(const SourceTensor& tensor) {
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> bytes, files_.ReadStart(tensor, kLintScaleBytes));
    std::vector<float> floats(bytes.size() / sizeof(float));
    std::memcpy(floats.data(), bytes.data(), floats.size() * sizeof(float));
    return floats;
  }

  // Whether the maps are the tables of numerics Q2 and Q5. REQUIRES, as CheckNumbers: CheckSizes() holds.
  absl::Status CheckMaps(const std::string& name, const Parts& parts, const BnbQuantState& state) {
    if (parts.quant_map != nullptr) {
      Q4_ASSIGN_OR_RETURN(const std::vector<float> map, ReadFloats(*parts.quant_map));
      if (!IsSameBnbTable(map, SchemeOf(state).code_values())) {
        // The message tells both faults apart: the map of the other type points to a wrong type, any other map to a
        // damaged one.
        const bool is_another = std::any_of(Schemes().begin(), Schemes().end(), [&map](const Scheme& other) {
          return IsSameBnbTable(map, other.code_values());
        });
        findings_.Add(kLintQuantMap, name, is_another ? "it is that of the other type" : "it is of neither type");
      }
    }
    if (state.nested && parts.nested_map != nullptr) {
      Q4_ASSIGN_OR_RETURN(const std::vector<float> map, ReadFloats(*parts.nested_map));
      if (!IsSameBnbTable(map, NestedMap())) findings_.Add(kLintNestedMap, name);
    }
    return absl::OkStatus();
  }

  absl::Status CheckNumbers(const std::string& name, const Parts& parts, const BnbQuantState& state) {
    // The library has no encoder but absmax, but others write its layout too, and a checkpoint does not tell. Rules
    // that rely on absmax are warnings.
    LintCodes weight;
    static_cast<QuantFormat&>(weight) = state;
    weight.searched_on_record = searched_;
    weight.scale_name = "absmax";
    std::vector<float> scales;
    if (parts.absmax != nullptr && !state.nested) {
      Q4_ASSIGN_OR_RETURN(scales, ReadFloats(*parts.absmax));
    } else if (parts.absmax != nullptr && parts.nested_absmax != nullptr) {
      Q4_ASSIGN_OR_RETURN(scales, DecodeNested(name, parts, state));
      weight.offset = static_cast<float>(state.nested_offset);
    }
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> bytes, files_.ReadStart(*parts.codes, kLintCodeBytes));
    weight.codes = bytes;
    if (state.elems % 2 != 0) {
      // Only if the end of the codes is among what was read; the padding itself may lie far behind it.
      if (bytes.size() == parts.codes->bytes) weight.codes = weight.codes.first(bytes.size() - 1);
      Q4_ASSIGN_OR_RETURN(const std::uint8_t last, files_.ReadLastByte(*parts.codes));
      const int zero = FindQ4Layout(state.scheme)->zero_code;
      if ((last & 15) != zero) {
        findings_.Add(kLintPadding, name, GotExpected(fmt::to_string(last & 15), fmt::to_string(zero)));
      }
    }
    weight.scales = scales;
    LintCodesOf(name, weight, &findings_);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<float>> DecodeNested(const std::string& name, const Parts& parts,
                                                  const BnbQuantState& state) {
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> codes, files_.ReadStart(*parts.absmax, kLintScaleBytes));
    Q4_ASSIGN_OR_RETURN(const std::vector<float> group_scales, ReadFloats(*parts.nested_absmax));
    // Scales are judged before they are decoded. Decoded ones are NaN only if these or the offset are, and rounding may
    // carry the smallest below zero, which is no fault. The offset is a mean of absmax values, but any finite number
    // decodes.
    LintScaleValues(name, "nested_absmax", group_scales, true, &findings_);
    const float offset = static_cast<float>(state.nested_offset);
    LintScaleValues(name, "nested_offset", {&offset, 1}, false, &findings_);
    std::vector<float> scales;
    DecodedScales(kernels_, {true, nullptr, codes.data(), group_scales.data(), offset}, codes.size(), &scales);
    return scales;
  }

  const KernelTable& kernels_;
  const bool searched_;
  LintFiles& files_;
  LintFindings& findings_;
  std::map<std::string, Parts> by_name_;
  std::vector<LintWeight> weights_;
};

}  // namespace

absl::StatusOr<std::vector<LintWeight>> LintCheckpointWeights(const KernelTable& kernels, bool searched,
                                                              LintFiles* files, LintFindings* findings) {
  return WeightLint(kernels, searched, files, findings).Run();
}

}  // namespace q4
