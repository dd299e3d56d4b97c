// Three passes over the tensors: codes find their scales by name; everything else is asked whether it is a scale that
// nobody asked for, or one that is left out; then the list is closed up (pairing.h).
#include "formats/logical/fp8.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/logical/fp8_scales.h"
#include "formats/logical/logical_issues.h"
#include "formats/logical/pairing.h"

namespace q4 {
namespace {

// Of a scale, behind the whole name of its weight; and in place of the last "weight" of it.
constexpr std::array<std::string_view, 2> kBehind = {"_scale_inv", "_scale"};
constexpr std::array<std::string_view, 3> kInPlace = {"scale_weight", "qscale_weight", "scale"};
// Names of scales that nothing else is called by: one without its weight is an error. "scale" is also a parameter.
constexpr std::array<std::string_view, 3> kOnlyScales = {"weight_scale", "scale_weight", "qscale_weight"};

// Called so by writers that nobody knows.
constexpr std::array<std::string_view, 2> kOtherScales = {"scales", "weight_scales"};

// ComfyUI's mark of a checkpoint, of no or two elements.
bool IsMark(const SourceTensor& tensor) {
  const std::string_view name = tensor.name;
  return (name == "scaled_fp8" || name.ends_with(".scaled_fp8")) && tensor.elems <= 2;
}

bool IsScaleType(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kF8E8M0 ||
         dtype == DType::kU8;
}

class Fp8Reading {
 public:
  Fp8Reading(const Fp8Section& section, const std::function<std::string(const SourceTensor&)>& path_of,
             std::vector<SourceTensor>* tensors, LeftOutList* left_out)
      : section_(section), path_of_(path_of), tensors_(*tensors), pairing_(tensors, left_out) {}

  absl::Status Run(Fp8Result* result) {
    Q4_RETURN_IF_ERROR(PairAll(result));
    if (result->scaled + result->unscaled == 0) return absl::OkStatus();
    if (result->scaled != 0) {
      for (std::uint32_t i = 0; i < tensors_.size(); ++i) {
        if (pairing_.fate(i) == Fate::kStays) Q4_RETURN_IF_ERROR(Look(i));
      }
    }
    pairing_.CloseUp();
    return absl::OkStatus();
  }

 private:
  using Fate = Pairing::Fate;
  static constexpr std::uint32_t kNone = Pairing::kNone;

  absl::Status Refuse(const Issue& issue, const SourceTensor& tensor, std::string_view detail) const {
    return Fail(issue, path_of_(tensor), tensor.name, detail);
  }

  absl::Status PairAll(Fp8Result* result) {
    std::uint32_t bare = kNone;  // the first weight without a scale
    for (std::uint32_t i = 0; i < tensors_.size(); ++i) {
      if (!IsFp8(tensors_[i].dtype) || IsMark(tensors_[i])) continue;
      std::uint32_t scale = kNone;
      Q4_RETURN_IF_ERROR(FindScale(i, &scale));
      if (scale == kNone) {
        if (bare == kNone) bare = i;
        ++result->unscaled;
      } else {
        ++result->scaled;
      }
      Q4_RETURN_IF_ERROR(Pair(i, scale));
    }
    if (bare == kNone || (result->scaled == 0 && !section_.claimed)) return absl::OkStatus();
    const std::string& name = tensors_[bare].name;
    return Refuse(kFp8NoScale, tensors_[bare],
                  fmt::format("neither '{0}_scale_inv' nor '{0}_scale' nor another name of scales is there; look for "
                              "the file that holds it, or for a complete download",
                              Printable(name)));
  }

  absl::Status FindScale(std::uint32_t weight, std::uint32_t* scale) {
    const std::string& name = tensors_[weight].name;
    const std::size_t leaf = LeafOf(name);
    for (std::size_t k = 0; k < kBehind.size() + kInPlace.size(); ++k) {
      std::uint32_t found = kNone;
      if (k < kBehind.size()) {
        found = pairing_.Find(name, name.size(), kBehind[k]);
      } else if (std::string_view(name).substr(leaf) == kWeightLeaf) {
        found = pairing_.Find(name, leaf, kInPlace[k - kBehind.size()]);
      }
      if (found == kNone) continue;
      if (*scale != kNone) {
        return Refuse(kFp8ScaleTwice, tensors_[weight],
                      fmt::format("'{}' and '{}'; remove the one that its loader does not read",
                                  Printable(tensors_[*scale].name), Printable(tensors_[found].name)));
      }
      *scale = found;
    }
    return absl::OkStatus();
  }

  absl::Status Pair(std::uint32_t weight, std::uint32_t scale) {
    SourceTensor& tensor = tensors_[weight];
    // Views of a larger tensor, as other kinds of files have them.
    for (const SourceTensor* part : {&tensor, scale != kNone ? &tensors_[scale] : &tensor}) {
      if (part->is_stored()) continue;
      return Refuse(kFp8Form, *part,
                    "its elements do not lie one after the other; load the checkpoint and save it anew");
    }
    auto scaled = std::make_shared<ScaledF8>();
    scaled->code = tensor.dtype;
    if (scale != kNone) {
      SourceTensor& scales = tensors_[scale];
      if (!IsScaleType(scales.dtype)) {
        return Refuse(kFp8ScaleDType, scales,
                      GotExpected(std::string(DTypeName(scales.dtype)), "F32, F16, BF16, F8_E8M0 or U8") +
                          "; convert the checkpoint that it was made from");
      }
      if (!FitScales(tensor.shape, scales.shape, section_, scaled.get())) {
        return Refuse(kFp8ScaleShape, scales,
                      fmt::format("got {} for a weight of {}, expected one scale, or one for each block{}, row or "
                                  "matrix; compare both with the original",
                                  ShapeString(scales.shape), ShapeString(tensor.shape), BlocksText()));
      }
      scaled->scale = scales.dtype;
      if (section_.rounds_to_scale) scaled->product = ProductType(scales.dtype);
      // ComfyUI orders the scales of blocks as its kernel reads them; its own mark lies beside such weights.
      const std::string& name = tensor.name;
      if (scales.elems != 1 && pairing_.Find(name, LeafOf(name), "comfy_quant") != kNone) {
        return Refuse(kFp8Form, scales,
                      "scales in the order of ComfyUI's kernel; convert the checkpoint that it was "
                      "made from");
      }
      scaled->scale_name = scales.name;
      tensor.extents.push_back(scales.place());
      pairing_.Set(scale, Fate::kGoes);
    } else {
      const std::string& name = tensor.name;
      for (const std::string_view other : kOtherScales) {
        if (pairing_.Find(name, LeafOf(name), other) == kNone) continue;
        return Refuse(kFp8Form, tensor,
                      fmt::format("nobody knows what its '{}' are; convert the checkpoint that it was "
                                  "made from",
                                  other));
      }
      scaled->columns = scaled->block_columns = std::max<std::uint64_t>(tensor.elems, 1);
    }
    pairing_.Set(weight, Fate::kRead);
    tensor.recipe = SourceRecipe::kScaledF8;
    tensor.dtype = section_.dtype;
    tensor.bytes = tensor.elems * ItemSize(tensor.dtype);
    tensor.scaled = std::move(scaled);
    return absl::OkStatus();
  }

  // compressed-tensors multiplies in the type of the scales; exponents become bfloat16 first.
  static DType ProductType(DType scale) {
    if (scale == DType::kF8E8M0 || scale == DType::kU8) return DType::kBF16;
    return scale;
  }

  std::string BlocksText() const {
    std::string text;
    for (const auto& [rows, columns] : section_.blocks) {
      text += fmt::format("{}{} x {}", text.empty() ? " (" : ", ", rows, columns);
    }
    return text.empty() ? text : text + ")";
  }

  // A tensor that is neither codes nor the scale of such.
  absl::Status Look(std::uint32_t i) {
    const SourceTensor& tensor = tensors_[i];
    const std::string_view name = tensor.name;
    const std::size_t leaf_begin = LeafOf(name);
    const std::string_view leaf = name.substr(leaf_begin);
    const bool is_beside_read = pairing_.IsRead(name, leaf_begin, kWeightLeaf);
    if (is_beside_read && IsOtherForm(leaf)) {
      return Refuse(kFp8Form, tensor, "it changes the weight; convert the checkpoint that it was made from");
    }
    if (IsMark(tensor) || (is_beside_read && leaf == "comfy_quant")) {
      pairing_.LeaveOut(i, "a mark for the loader of scaled 8-bit floats");
      return absl::OkStatus();
    }
    if (pairing_.LeaveOutScale(i)) return absl::OkStatus();
    const std::uint32_t beside = pairing_.Find(name, leaf_begin, kWeightLeaf);
    if (!IsAmong(kOnlyScales, leaf) && !leaf.ends_with("_scale_inv")) return absl::OkStatus();
    const std::uint32_t of = leaf.ends_with("_scale_inv")
                                 ? pairing_.Find(name, name.size() - std::string_view("_scale_inv").size(), "")
                                 : beside;
    // Scales of integers are another method's, which is told by that.
    if (of != kNone && !IsQuantizable(tensors_[of].dtype)) return absl::OkStatus();
    if (of != kNone && pairing_.fate(of) == Fate::kRead) return absl::OkStatus();
    return Refuse(kFp8OrphanScale, tensor,
                  of == kNone ? "its weight is not there; look for the file that holds it, or for a complete download"
                              : fmt::format("its weight is {}; remove the scale if the weight is whole without it",
                                            DTypeName(tensors_[of].dtype)));
  }

  const Fp8Section& section_;
  const std::function<std::string(const SourceTensor&)>& path_of_;
  std::vector<SourceTensor>& tensors_;
  Pairing pairing_;
};

}  // namespace

bool IsFp8(DType dtype) { return dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2; }

absl::Status ReadFp8Tensors(const Fp8Section& section, const std::function<std::string(const SourceTensor&)>& path_of,
                            std::vector<SourceTensor>* tensors, LeftOutList* left_out, Fp8Result* result) {
  return Fp8Reading(section, path_of, tensors, left_out).Run(result);
}

}  // namespace q4
