// Three passes as in fp8.cc: codes find their scales by name; everything else is asked whether it is a scale that
// nobody asked for, or one that is left out; then names change and the list is closed up.
//
// Bytes with a scale beside them are also how 8-bit integers are stored. Names that no other method has, scales of
// E4M3 and E8M0, and for scales that are bytes themselves the shapes tell which they are.
#include "formats/logical/fp4.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/logical/fp4_layout.h"
#include "formats/logical/fp8_section.h"
#include "formats/logical/logical_issues.h"
#include "formats/logical/pairing.h"

namespace q4 {
namespace {

// What stands behind the name of a weight.
constexpr std::string_view kPacked = "_packed", kBlocks = "_blocks", kDotBlocks = ".blocks";
// Of a scale, behind the whole name of a weight that bears its own.
constexpr std::array<std::string_view, 3> kScaleBehind = {"_scale", "_weight_scale", "_scale_inv"};
// Endings that only scales of such weights have, with their weight before them.
constexpr std::array<std::string_view, 4> kGlobalEndings = {"_weight_global_scale", "_global_scale", "_weight_scale_2",
                                                            "_scale_2"};
constexpr std::array<std::string_view, 5> kScaleEndings = {"_weight_scale", "_scale_inv", "_scale", "_scales",
                                                           ".scales"};

constexpr std::uint64_t kNvBlock = 16, kMxBlock = 32;

bool IsPackedByte(DType dtype) { return dtype == DType::kU8 || dtype == DType::kI8; }
bool IsExponent(DType dtype) { return dtype == DType::kU8 || dtype == DType::kF8E8M0; }

// The experts whose weights transformers transposes.
bool IsTransposed(std::string_view weight) {
  const std::string_view leaf = weight.substr(LeafOf(weight));
  return leaf == "gate_up_proj" || leaf == "down_proj";
}

class Fp4Reading {
 public:
  Fp4Reading(DType dtype, const std::function<std::string(const SourceTensor&)>& path_of,
             std::vector<SourceTensor>* tensors, LeftOutList* left_out)
      : dtype_(dtype), path_of_(path_of), tensors_(*tensors), pairing_(tensors, left_out) {}

  absl::Status Run(Fp4Result* result) {
    std::uint32_t bare = kNone;  // the first weight of bytes without any scale
    for (std::uint32_t i = 0; i < tensors_.size(); ++i) {
      if (!IsPackedByte(tensors_[i].dtype) || tensors_[i].shape.size() < 2) continue;
      bool is_bare = false;
      Q4_RETURN_IF_ERROR(Look(i, &is_bare));
      if (is_bare && bare == kNone) bare = i;
    }
    Q4_RETURN_IF_ERROR(CheckPartsOnce());
    for (const Parts& parts : found_) Q4_RETURN_IF_ERROR(Pair(parts, result));
    if (result->nvfp4 + result->mxfp4 == 0) return absl::OkStatus();
    if (bare != kNone) return NoScale(tensors_[bare], tensors_[bare].name + "_scale");
    for (std::uint32_t i = 0; i < tensors_.size(); ++i) {
      if (pairing_.fate(i) == Pairing::Fate::kStays) Q4_RETURN_IF_ERROR(LookAtRest(i));
    }
    pairing_.CloseUp();
    return absl::OkStatus();
  }

 private:
  static constexpr std::uint32_t kNone = Pairing::kNone;

  // Codes, and what belongs to them. Indices are those of tensors.
  struct Parts {
    std::uint32_t codes = kNone, scale = kNone, global = kNone;
    std::string weight;  // its name
    F4Form form = F4Form::kMatrix;
    bool of_compressed_tensors = false;
  };

  absl::Status Refuse(const Issue& issue, const SourceTensor& tensor, std::string detail) const {
    return Fail(issue, path_of_(tensor), tensor.name, std::move(detail));
  }
  absl::Status NoScale(const SourceTensor& tensor, std::string_view scale) const {
    return Refuse(kF4NoScale, tensor,
                  fmt::format("'{}' is not there; look for the file that holds it, or for a complete download",
                              Printable(scale)));
  }

  // Codes are read when all are known: a tensor that became a weight would no longer be the scale that another needs.
  absl::Status Keep(const Parts& parts) {
    found_.push_back(parts);
    return absl::OkStatus();
  }

  // "a" and "a_weight" both look for "a_weight_scale"; and what is codes to one may be a scale to another.
  absl::Status CheckPartsOnce() const {
    std::vector<std::uint32_t> used_by(tensors_.size(), kNone);
    for (const Parts& parts : found_) {
      for (const std::uint32_t part : {parts.codes, parts.scale, parts.global}) {
        if (part == kNone) continue;
        if (used_by[part] != kNone) {
          return Refuse(kF4PartTwice, tensors_[part],
                        fmt::format("of '{}' and of '{}'; compare the names with the original",
                                    Printable(tensors_[used_by[part]].name), Printable(tensors_[parts.codes].name)));
        }
        used_by[part] = parts.codes;
      }
    }
    return absl::OkStatus();
  }

  // Keeps tensor `i` if it is codes. `bare`: it may be, and has no scale.
  absl::Status Look(std::uint32_t i, bool* bare) {
    const SourceTensor& tensor = tensors_[i];
    const std::string& name = tensor.name;
    Parts parts;
    parts.codes = i;
    const auto is_called = [&](std::string_view behind) {
      if (!name.ends_with(behind) || name.size() - behind.size() <= LeafOf(name)) return false;
      parts.weight = name.substr(0, name.size() - behind.size());
      return true;
    };
    if (is_called(kPacked)) {
      parts.of_compressed_tensors = true;
      parts.scale = pairing_.Find(parts.weight, parts.weight.size(), "_scale");
      if (parts.scale == kNone) return NoScale(tensor, parts.weight + "_scale");
      if (!IsScale(parts.scale)) return WrongType(tensors_[parts.scale]);
      parts.global = pairing_.Find(parts.weight, parts.weight.size(), "_global_scale");
      return Keep(parts);
    }
    if (is_called(kBlocks) && IsTransposed(parts.weight)) {
      parts.form = F4Form::kTransposed;
      parts.scale = pairing_.Find(parts.weight, parts.weight.size(), "_scales");
      if (parts.scale == kNone) return NoScale(tensor, parts.weight + "_scales");
      if (!IsExponent(tensors_[parts.scale].dtype)) return WrongType(tensors_[parts.scale]);
      return Keep(parts);
    }
    if (name.ends_with(kDotBlocks)) {
      parts.form = F4Form::kBlocks;
      parts.weight = name.substr(0, name.size() - kDotBlocks.size());
      parts.scale = pairing_.Find(parts.weight, parts.weight.size(), ".scales");
      return parts.scale != kNone && IsExponent(tensors_[parts.scale].dtype) ? Keep(parts) : absl::OkStatus();
    }
    parts.weight = name;
    return LookAtBytes(std::move(parts), bare);
  }

  // A tensor that bears the name of its weight.
  absl::Status LookAtBytes(Parts parts, bool* bare) {
    const SourceTensor& tensor = tensors_[parts.codes];
    const std::string& name = tensor.name;
    const std::size_t leaf = LeafOf(name);
    const bool is_weight = std::string_view(name).substr(leaf) == kWeightLeaf;
    // Scales in the order of ComfyUI's kernel, and codes in another than all others'.
    if (pairing_.Find(name, leaf, "comfy_quant") != kNone) return absl::OkStatus();
    for (std::size_t k = 0; k <= kScaleBehind.size(); ++k) {
      const std::uint32_t found = k < kScaleBehind.size() ? pairing_.Find(name, name.size(), kScaleBehind[k])
                                  : is_weight             ? pairing_.Find(name, leaf, "scale")
                                                          : kNone;
      if (found == kNone) continue;
      if (parts.scale != kNone) {
        return !IsScale(found) && !IsScale(parts.scale)
                   ? absl::OkStatus()
                   : Refuse(kF4ScaleTwice, tensor,
                            fmt::format("'{}' and '{}'; remove the one that its loader does not read",
                                        Printable(tensors_[parts.scale].name), Printable(tensors_[found].name)));
      }
      parts.scale = found;
    }
    *bare = is_weight && parts.scale == kNone;
    if (parts.scale == kNone || !IsScale(parts.scale)) return absl::OkStatus();
    const SourceTensor& scale = tensors_[parts.scale];
    parts.global = pairing_.Find(scale.name, scale.name.size(), "_2");
    // Bytes that are scales of anything else: of integers, with another number of them.
    Shape shape;
    PackedF4 packed;
    if (scale.dtype == DType::kU8 && !FitF4(parts.form, tensor.shape, scale.shape, kMxBlock, &shape, &packed)) {
      return absl::OkStatus();
    }
    return Keep(parts);
  }

  bool IsScale(std::uint32_t i) const { return tensors_[i].dtype == DType::kF8E4M3 || IsExponent(tensors_[i].dtype); }

  absl::Status WrongType(const SourceTensor& scale) const {
    return Refuse(kF4ScaleDType, scale,
                  GotExpected(std::string(DTypeName(scale.dtype)), "F8_E4M3 (NVFP4), U8 or F8_E8M0 (MXFP4)") +
                      "; convert the checkpoint that it was made from");
  }

  absl::Status Pair(const Parts& parts, Fp4Result* result) {
    SourceTensor& tensor = tensors_[parts.codes];
    const SourceTensor& scale = tensors_[parts.scale];
    const SourceTensor* global = parts.global != kNone ? &tensors_[parts.global] : nullptr;
    const SourceTensor* const all[] = {&tensor, &scale, global};
    for (const SourceTensor* part : all) {
      if (part == nullptr || part->is_stored()) continue;
      return Refuse(kF4Form, *part,
                    "its elements do not lie one after the other; load the checkpoint and save it anew");
    }
    const std::string& weight = parts.weight;
    if (weight != tensor.name && pairing_.Find(weight) != kNone) {
      return Refuse(kF4NameTaken, tensor,
                    fmt::format("'{}' is there too; remove the one that its loader does not read", Printable(weight)));
    }
    auto packed = std::make_shared<PackedF4>();
    packed->scale = scale.dtype;
    const bool is_nv = scale.dtype == DType::kF8E4M3;
    Shape shape;
    std::uint64_t elems = 0;
    if (!FitF4(parts.form, tensor.shape, scale.shape, is_nv ? kNvBlock : kMxBlock, &shape, packed.get()) ||
        !CountElements(shape, &elems)) {
      return Refuse(kF4ScaleShape, scale,
                    fmt::format("got {} for codes of {}, expected a scale for each {} elements; compare both with the "
                                "original",
                                ShapeString(scale.shape), ShapeString(tensor.shape), is_nv ? kNvBlock : kMxBlock));
    }
    if (is_nv && global == nullptr) {
      return NoScale(tensor, parts.of_compressed_tensors ? weight + "_global_scale" : scale.name + "_2");
    }
    if (global != nullptr) {
      if (!IsQuantizable(global->dtype)) {
        return Refuse(kF4ScaleDType, *global, GotExpected(std::string(DTypeName(global->dtype)), "F32, F16 or BF16"));
      }
      if (!FitF4Global(shape, global->shape, packed.get())) {
        return Refuse(kF4ScaleShape, *global,
                      fmt::format("got {} for a weight of {}, expected one scale, or one for each matrix",
                                  ShapeString(global->shape), ShapeString(shape)));
      }
      packed->global = global->dtype;
      packed->use = parts.of_compressed_tensors ? PackedF4::Global::kDivisor : PackedF4::Global::kFactor;
      packed->global_name = global->name;
    }
    if (parts.of_compressed_tensors) {
      // It decodes to bfloat16 whatever the model is. A scalar, or a divisor of that type, leaves the scales bfloat16.
      packed->product = DType::kBF16;
      if (global != nullptr && (global->shape.empty() || global->dtype == DType::kBF16)) packed->joint = DType::kBF16;
    }
    packed->shifts = parts.form != F4Form::kMatrix && scale.dtype == DType::kU8;
    packed->code_name = tensor.name;
    packed->scale_name = scale.name;
    tensor.extents.push_back(scale.place());
    if (global != nullptr) tensor.extents.push_back(global->place());
    pairing_.Set(parts.scale, Pairing::Fate::kGoes);
    if (global != nullptr) pairing_.Set(parts.global, Pairing::Fate::kGoes);
    pairing_.Set(parts.codes, Pairing::Fate::kRead);
    if (weight != tensor.name) pairing_.Rename(parts.codes, weight);
    tensor.recipe = SourceRecipe::kPackedF4;
    tensor.dtype = dtype_;
    tensor.shape = std::move(shape);
    tensor.elems = elems;
    tensor.bytes = elems * ItemSize(dtype_);
    tensor.packed = std::move(packed);
    ++(is_nv ? result->nvfp4 : result->mxfp4);
    return absl::OkStatus();
  }

  // A tensor that is neither codes nor the scale of such.
  absl::Status LookAtRest(std::uint32_t i) {
    const SourceTensor& tensor = tensors_[i];
    const std::string_view name = tensor.name;
    const std::size_t leaf_begin = LeafOf(name);
    const std::string_view leaf = name.substr(leaf_begin);
    if (pairing_.IsRead(name, leaf_begin, kWeightLeaf)) {
      if (IsOtherForm(leaf)) {
        return Refuse(kF4Form, tensor, "it changes the weight; convert the checkpoint that it was made from");
      }
      if (leaf == "weight_shape") {
        pairing_.LeaveOut(i, "the shape of a weight, for the loader of its codes");
        return absl::OkStatus();
      }
    }
    if (pairing_.LeaveOutScale(i)) return absl::OkStatus();
    return CheckNoOrphan(tensor);
  }

  // The weight of what looks like a scale of these formats must be one that another reader knows.
  absl::Status CheckNoOrphan(const SourceTensor& tensor) {
    const std::string_view name = tensor.name;
    for (const std::string_view ending : kGlobalEndings) {
      // Of inputs, where the weight is not one of these.
      if (!name.ends_with(ending) || !IsQuantizable(tensor.dtype) || name.ends_with("put_global_scale")) continue;
      return Orphan(tensor, pairing_.Find(name, name.size() - ending.size(), ""));
    }
    if (tensor.dtype != DType::kF8E4M3 && !IsExponent(tensor.dtype)) return absl::OkStatus();
    for (const std::string_view ending : kScaleEndings) {
      if (!name.ends_with(ending)) continue;
      const std::uint32_t of = pairing_.Find(name, name.size() - ending.size(), "");
      // 8-bit floats have such scales too, and integers.
      const bool is_others = of != kNone && ItemSize(tensors_[of].dtype) == 1;
      return is_others ? absl::OkStatus() : Orphan(tensor, of);
    }
    return absl::OkStatus();
  }
  absl::Status Orphan(const SourceTensor& tensor, std::uint32_t weight) const {
    return Refuse(kF4OrphanScale, tensor,
                  weight == kNone
                      ? "its weight is not there; look for the file that holds it, or for a complete download"
                      : fmt::format("its weight is {}; remove the scale if the weight is whole without it",
                                    DTypeName(tensors_[weight].dtype)));
  }

  const DType dtype_;
  const std::function<std::string(const SourceTensor&)>& path_of_;
  std::vector<SourceTensor>& tensors_;
  std::vector<Parts> found_;
  Pairing pairing_;
};

}  // namespace

bool MayHoldF4(const std::vector<SourceTensor>& tensors) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [](const SourceTensor& t) { return IsPackedByte(t.dtype) && t.shape.size() >= 2; });
}

absl::Status ReadF4Tensors(DType dtype, const std::function<std::string(const SourceTensor&)>& path_of,
                           std::vector<SourceTensor>* tensors, LeftOutList* left_out, Fp4Result* result) {
  return Fp4Reading(dtype, path_of, tensors, left_out).Run(result);
}

absl::Status CheckF4Section(const Json& section, std::string_view file, std::string_view place) {
  if (!HasRotations(section)) return absl::OkStatus();
  return Fail(kF4Form, file, fmt::format("{}.transform_config", place),
              "the weights are rotated; convert the checkpoint that it was made from");
}

}  // namespace q4
