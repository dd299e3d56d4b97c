// Opening goes through the file once: the header, which is a checkpoint's; the two documents in its __metadata__; then
// the payload, tensor by tensor in the order of the file, each piece into the digest and past the checks. Nothing of
// the payload stays in memory, so that Hessians of any size cost time alone.
#include "formats/calibration/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>

#include "formats/base/byte_reader.h"
#include "formats/base/digest.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/calibration/calibration_issues.h"
#include "formats/safetensors/safetensors.h"
#include "formats/safetensors/sniff.h"

namespace q4 {
namespace {

constexpr std::string_view kVersionKey = "q4_calibration", kWeightsKey = "weights",
                           kTransposedKey = "transposed_weights", kProvenanceKey = "provenance";
constexpr std::string_view kVersion = "1";
constexpr std::string_view kCure =
    "q4calibrate MODEL --texts FILE... or MODEL --imatrix FILE.gguf makes one; docs/calibration.md has the layout";

// The kinds of tensors of an input, by the ends of their names.
enum class Part { kMoments, kCount, kHessian };
constexpr std::array<std::pair<std::string_view, Part>, 3> kParts = {
    {{".second_moments", Part::kMoments}, {".count", Part::kCount}, {".hessian", Part::kHessian}}};

// The payload is read in pieces: a multiple of every item size.
constexpr std::uint64_t kPieceBytes = 1 << 20;

// A tensor of the file: which part of which input.
struct PlacedTensor {
  const SourceTensor* tensor;
  Part part;
  std::uint32_t input;
};

std::string_view WithoutFirstModule(std::string_view name) {
  const std::size_t dot = name.find('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(dot + 1);
}

const std::string* FindText(const SafetensorsHeader& header, std::string_view key) {
  // Of a key that comes twice the last counts, as in Python.
  const auto found = std::find_if(header.metadata.rbegin(), header.metadata.rend(),
                                  [key](const auto& entry) { return entry.first == key; });
  return found == header.metadata.rend() ? nullptr : &found->second;
}

// What is given in the place of a calibration by mistake: the model itself, an imatrix, texts.
absl::Status RefuseOtherFormats(const RandomAccessFile& file) {
  std::vector<std::uint8_t> head(static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), kSniffBytes)));
  Q4_RETURN_IF_ERROR(file.ReadAt(0, head));
  const FileKind kind = SniffKind(head);
  if (kind == FileKind::kUnknown) return absl::OkStatus();
  // Without what can be done with it elsewhere.
  const std::string_view what = DescribeKind(kind);
  return Fail(kCalibrationLayout, file.path(), {},
              fmt::format("it looks like {}; {}", what.substr(0, what.find(';')), kCure));
}

// One JSON object in a text of __metadata__.
absl::StatusOr<Json> ParseMember(const std::string& text, std::string_view key, int depth, const std::string& file) {
  absl::StatusOr<Json> json = ParseJson(text, fmt::format("{}, {}", file, key), depth);
  if (!json.ok()) return json.status();
  if (!json->is_object()) return Fail(kCalibrationLayout, file, key, "expected a JSON object");
  return json;
}

absl::Status WrongTensor(const std::string& file, std::string_view name, std::string_view got,
                         std::string_view expected) {
  return Fail(kCalibrationTensor, file, name, GotExpected(got, expected));
}

absl::Status CheckShape(const std::string& file, const SourceTensor& tensor, DType dtype, const Shape& shape) {
  if (tensor.dtype == dtype && tensor.shape == shape) return absl::OkStatus();
  return WrongTensor(file, tensor.name, fmt::format("{} {}", DTypeName(tensor.dtype), ShapeString(tensor.shape)),
                     fmt::format("{} {}", DTypeName(dtype), ShapeString(shape)));
}

// Finds the tensors of every input among those of the file, and checks their shapes against each other. Fills in all of
// `inputs` but what counts say. The result is in the order of the file.
absl::StatusOr<std::vector<PlacedTensor>> PlaceTensors(const SafetensorsHeader& header, const std::string& file,
                                                       std::vector<InputStatistics>* inputs) {
  std::map<std::string_view, std::uint32_t> numbers;
  for (std::uint32_t i = 0; i < inputs->size(); ++i) numbers.emplace((*inputs)[i].name, i);
  std::vector<std::array<const SourceTensor*, kParts.size()>> parts(inputs->size());
  std::vector<PlacedTensor> placed;
  for (const SourceTensor& tensor : header.tensors) {
    std::optional<PlacedTensor> place;
    for (const auto& [ending, part] : kParts) {
      if (!tensor.name.ends_with(ending)) continue;
      const auto found = numbers.find(std::string_view(tensor.name).substr(0, tensor.name.size() - ending.size()));
      if (found != numbers.end()) place = {&tensor, part, found->second};
    }
    if (!place) {
      return Fail(kCalibrationLayout, file, tensor.name, fmt::format("no weight has an input of that name; {}", kCure));
    }
    parts[place->input][static_cast<std::size_t>(place->part)] = &tensor;
    placed.push_back(*place);
  }
  for (std::uint32_t i = 0; i < inputs->size(); ++i) {
    InputStatistics& input = (*inputs)[i];
    const auto& [moments, count, hessian] = parts[i];
    for (const Part part : {Part::kMoments, Part::kCount}) {
      if (parts[i][static_cast<std::size_t>(part)] == nullptr) {
        return Fail(kCalibrationTensor, file,
                    fmt::format("{}{}", input.name, kParts[static_cast<std::size_t>(part)].first),
                    fmt::format("it is not there, and a weight has this input; {}", kCure));
      }
    }
    const std::size_t dimensions = moments->shape.size();
    if (dimensions < 1 || dimensions > 2 || moments->elems == 0) {
      return WrongTensor(file, moments->name, ShapeString(moments->shape), "[in], or [experts, in] of a stack");
    }
    input.stacked = dimensions == 2;
    input.matrices = input.stacked ? moments->shape[0] : 1;
    input.columns = moments->shape.back();
    Q4_RETURN_IF_ERROR(CheckShape(file, *moments, DType::kF32, moments->shape));
    Q4_RETURN_IF_ERROR(CheckShape(file, *count, DType::kI64, {input.matrices}));
    input.moments_at = moments->extents[0].offset;
    if (hessian == nullptr) continue;
    Shape shape = moments->shape;
    shape.push_back(input.columns);
    Q4_RETURN_IF_ERROR(CheckShape(file, *hessian, DType::kF32, shape));
    input.has_hessian = true;
    input.hessian_at = hessian->extents[0].offset;
  }
  return placed;
}

// What the numbers of one input have shown so far. Counts and moments may come in either order.
struct Seen {
  std::vector<bool> counted, moved;  // by matrix: some token, some moment that is not 0
};

class PayloadCheck {
 public:
  PayloadCheck(const std::string& file, std::vector<InputStatistics>* inputs) : file_(file), inputs_(*inputs) {
    seen_.resize(inputs_.size());
  }

  // Elements from `first` on of a tensor.
  absl::Status See(const PlacedTensor& place, std::uint64_t first, std::span<const std::uint8_t> bytes) {
    const InputStatistics& input = inputs_[place.input];
    Seen& seen = seen_[place.input];
    ByteReader in(bytes);
    const std::uint64_t n = bytes.size() / ItemSize(place.tensor->dtype);
    switch (place.part) {
      case Part::kCount:
        seen.counted.resize(input.matrices);
        for (std::uint64_t i = 0; i < n; ++i) Q4_RETURN_IF_ERROR(SeeCount(place, first + i, in.U64()));
        return absl::OkStatus();
      case Part::kMoments:
        seen.moved.resize(input.matrices);
        for (std::uint64_t i = 0; i < n; ++i) {
          const float moment = in.F32();
          if (!std::isfinite(moment) || moment < 0) return Wrong(place, first + i, moment, "a finite number from 0 on");
          if (moment > 0) seen.moved[(first + i) / input.columns] = true;
        }
        return absl::OkStatus();
      case Part::kHessian:
        for (std::uint64_t i = 0; i < n; ++i) {
          const float product = in.F32();
          if (!std::isfinite(product)) return Wrong(place, first + i, product, "a finite number");
        }
        return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  std::uint64_t most_tokens() const { return most_tokens_; }

  // After all of them.
  absl::Status End() {
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      for (std::uint64_t matrix = 0; matrix < inputs_[i].matrices; ++matrix) {
        if (seen_[i].counted[matrix]) continue;
        ++inputs_[i].idle;
        if (!seen_[i].moved[matrix]) continue;
        return Fail(kCalibrationValue, file_, inputs_[i].name + ".count",
                    fmt::format("element {}: 0 tokens, but second moments that are not 0", matrix));
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Wrong(const PlacedTensor& place, std::uint64_t element, double got, std::string_view expected) const {
    return Fail(kCalibrationValue, file_, place.tensor->name,
                fmt::format("element {}: {}; {}", element, GotExpected(fmt::format("{}", got), expected), kCure));
  }

  absl::Status SeeCount(const PlacedTensor& place, std::uint64_t matrix, std::uint64_t tokens) {
    InputStatistics& input = inputs_[place.input];
    // An expert may never have been chosen; a layer that no token came to was not calibrated.
    const std::uint64_t least = input.stacked ? 0 : 1;
    // I64: what has the uppermost bit is negative.
    if (tokens < least || tokens > limits::kTensorElements) {
      return Wrong(place, matrix, static_cast<double>(static_cast<std::int64_t>(tokens)),
                   fmt::format("a number of tokens from {} to 2^48", least));
    }
    input.tokens += tokens;
    most_tokens_ = std::max(most_tokens_, tokens);
    seen_[place.input].counted[matrix] = tokens > 0;
    return absl::OkStatus();
  }

  const std::string& file_;
  std::vector<InputStatistics>& inputs_;
  std::vector<Seen> seen_;
  std::uint64_t most_tokens_ = 0;
};

// Reads [begin, end) of the file in pieces, digests them and hands them on.
template <typename Take>
absl::Status ReadThrough(const RandomAccessFile& file, std::uint64_t begin, std::uint64_t end, Sha256Stream* digest,
                         std::vector<std::uint8_t>* piece, const Take& take) {
  for (std::uint64_t at = begin; at < end; at += piece->size()) {
    piece->resize(std::min(kPieceBytes, end - at));
    Q4_RETURN_IF_ERROR(file.ReadAt(at, *piece));
    digest->Update(*piece);
    Q4_RETURN_IF_ERROR(take(at - begin, std::span<const std::uint8_t>(*piece)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Calibration>> Calibration::Open(FileSystem& fs, const std::string& path) {
  std::shared_ptr<Calibration> calibration(new Calibration);
  Q4_ASSIGN_OR_RETURN(calibration->file_, fs.OpenForRead(path));
  const RandomAccessFile& file = *calibration->file_;
  Q4_RETURN_IF_ERROR(RefuseOtherFormats(file));
  Q4_ASSIGN_OR_RETURN(const SafetensorsHeader header, ReadSafetensorsHeader(file, {limits::kCalibrationMetadataBytes,
                                                                                   limits::kCalibrationMetadataBytes}));

  const std::string* const version = FindText(header, kVersionKey);
  if (version == nullptr) {
    const bool any = !header.tensors.empty();
    return Fail(kCalibrationLayout, path, "__metadata__",
                fmt::format("'{}' is missing: a safetensors file of something else{}; {}", kVersionKey,
                            any ? fmt::format(", with '{}'", header.tensors.front().name) : "", kCure));
  }
  if (*version != kVersion) return Fail(kCalibrationVersion, path, kVersionKey, GotExpected(*version, kVersion));
  if (const std::string* const provenance = FindText(header, kProvenanceKey)) {
    Q4_RETURN_IF_ERROR(ParseMember(*provenance, kProvenanceKey, limits::kConfigJsonDepth, path).status());
    calibration->provenance_ = *provenance;
  }
  const std::string* const weights = FindText(header, kWeightsKey);
  if (weights == nullptr || header.metadata_bytes > limits::kCalibrationMetadataBytes) {
    return Fail(kCalibrationLayout, path, "__metadata__",
                weights == nullptr ? fmt::format("'{}' is missing; {}", kWeightsKey, kCure)
                                   : GotExpected(fmt::format("{} bytes", header.metadata_bytes),
                                                 fmt::format("at most {}", limits::kCalibrationMetadataBytes)));
  }
  Q4_RETURN_IF_ERROR(calibration->NameWeights(*weights, false));
  if (const std::string* const transposed = FindText(header, kTransposedKey)) {
    Q4_RETURN_IF_ERROR(calibration->NameWeights(*transposed, true));
  }
  Q4_RETURN_IF_ERROR(calibration->SortWeights());

  Q4_ASSIGN_OR_RETURN(const std::vector<PlacedTensor> tensors, PlaceTensors(header, path, &calibration->inputs_));
  PayloadCheck check(path, &calibration->inputs_);
  Sha256Stream digest;
  std::vector<std::uint8_t> piece;
  Q4_RETURN_IF_ERROR(ReadThrough(file, 0, header.payload_offset, &digest, &piece,
                                 [](std::uint64_t, std::span<const std::uint8_t>) { return absl::OkStatus(); }));
  // Tensors cover the payload in this order, without holes: safetensors.h.
  for (const PlacedTensor& place : tensors) {
    const std::uint64_t begin = place.tensor->extents[0].offset;
    Q4_RETURN_IF_ERROR(ReadThrough(file, begin, begin + place.tensor->bytes, &digest, &piece,
                                   [&](std::uint64_t at, std::span<const std::uint8_t> bytes) {
                                     return check.See(place, at / ItemSize(place.tensor->dtype), bytes);
                                   }));
  }
  Q4_RETURN_IF_ERROR(check.End());
  Q4_RETURN_IF_ERROR(file.CheckUnchanged());
  calibration->digest_ = HexOf(digest.Finish());
  calibration->tokens_ = check.most_tokens();
  return calibration;
}

absl::Status Calibration::NameWeights(const std::string& text, bool transposed) {
  const std::string_view key = transposed ? kTransposedKey : kWeightsKey;
  Q4_ASSIGN_OR_RETURN(const Json names, ParseMember(text, key, 1, path()));
  std::map<std::string, std::uint32_t> numbers;
  for (std::uint32_t i = 0; i < inputs_.size(); ++i) numbers.emplace(inputs_[i].name, i);
  for (const auto& [weight, input] : names.items()) {
    if (!input.is_string()) {
      return Fail(kCalibrationLayout, path(), key, fmt::format("'{}': expected the name of an input", weight));
    }
    const auto [found, fresh] = numbers.emplace(input.text(), static_cast<std::uint32_t>(inputs_.size()));
    if (fresh) inputs_.emplace_back().name = input.text();
    weights_.push_back({weight, found->second, transposed});
  }
  return absl::OkStatus();
}

absl::Status Calibration::SortWeights() {
  if (weights_.empty()) return Fail(kCalibrationLayout, path(), kWeightsKey, "it names no weight");
  std::sort(weights_.begin(), weights_.end(),
            [](const NamedWeight& a, const NamedWeight& b) { return a.name < b.name; });
  for (std::uint32_t i = 0; i < weights_.size(); ++i) {
    if (i > 0 && weights_[i].name == weights_[i - 1].name) {
      return Fail(kCalibrationLayout, path(), kTransposedKey,
                  fmt::format("'{}' stands in '{}' too", weights_[i].name, kWeightsKey));
    }
    tails_.emplace_back(WithoutFirstModule(weights_[i].name), i);
  }
  std::sort(tails_.begin(), tails_.end());
  return absl::OkStatus();
}

std::uint32_t Calibration::FindExactly(std::string_view weight) const {
  const auto found =
      std::lower_bound(weights_.begin(), weights_.end(), weight,
                       [](const NamedWeight& entry, std::string_view name) { return entry.name < name; });
  const bool is_there = found != weights_.end() && found->name == weight;
  return is_there ? static_cast<std::uint32_t>(found - weights_.begin()) : kNone;
}

std::uint32_t Calibration::FindLoosely(std::string_view weight) const {
  const std::uint32_t shorter = FindExactly(WithoutFirstModule(weight));
  const auto [begin, end] = std::equal_range(tails_.begin(), tails_.end(), Tail(weight, 0),
                                             [](const Tail& a, const Tail& b) { return a.first < b.first; });
  if (begin == end) return shorter;
  return shorter != kNone || end - begin > 1 ? kNone : begin->second;
}

WeightInput Calibration::Find(std::string_view weight) const {
  const std::uint32_t found = FindExactly(weight);
  return found == kNone ? WeightInput() : InputOf(weights_[found]);
}

std::vector<WeightInput> Calibration::Match(std::span<const std::string_view> names) const {
  std::vector<WeightInput> inputs(names.size());
  std::vector<std::uint32_t> loosely(names.size(), kNone);
  std::vector<std::uint32_t> claims(weights_.size(), 0);  // names that mean it
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::uint32_t exactly = FindExactly(names[i]);
    if (exactly != kNone) {
      inputs[i] = InputOf(weights_[exactly]);
    } else {
      loosely[i] = FindLoosely(names[i]);
    }
    if (const std::uint32_t claimed = std::min(exactly, loosely[i]); claimed != kNone) ++claims[claimed];
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (loosely[i] != kNone && claims[loosely[i]] == 1) inputs[i] = InputOf(weights_[loosely[i]]);
  }
  return inputs;
}

absl::Status Calibration::ReadFloats(std::uint64_t at, std::span<float> floats) const {
  // x86-64 and AArch64 are little-endian, as the file is.
  Q4_RETURN_IF_ERROR(
      file_->ReadAt(at, {reinterpret_cast<std::uint8_t*>(floats.data()), floats.size() * sizeof(float)}));
  // The numbers were looked at when it was opened.
  return file_->CheckUnchanged();
}

absl::Status Calibration::ReadMoments(const InputStatistics& input, std::span<float> moments) const {
  return ReadFloats(input.moments_at, moments);
}

absl::Status Calibration::ReadHessian(const InputStatistics& input, std::uint64_t matrix,
                                      std::span<float> hessian) const {
  const std::uint64_t n = input.columns;
  std::vector<float> moments(n);
  Q4_RETURN_IF_ERROR(ReadFloats(input.moments_at + matrix * n * sizeof(float), moments));
  Q4_RETURN_IF_ERROR(ReadFloats(input.hessian_at + matrix * n * n * sizeof(float), hessian));
  const auto fail = [&](std::uint64_t row, std::uint64_t column, float got, float expected) {
    return Fail(kCalibrationHessian, path(), input.name + ".hessian",
                fmt::format("matrix {}, row {}, column {}: {}; {}", matrix, row, column,
                            GotExpected(fmt::format("{}", got), fmt::format("about {}", expected)), kCure));
  };
  // Sums of the same products in another order, or in fewer digits: a thousandth is far above what that makes, and far
  // below what a wrong matrix has. In units of what the two columns can have at most (Cauchy and Schwarz).
  constexpr double kRounding = 1e-3;
  std::vector<double> size(n);
  for (std::uint64_t i = 0; i < n; ++i) {
    size[i] = std::sqrt(static_cast<double>(moments[i]));
    const float diagonal = hessian[i * n + i];
    if (std::abs(static_cast<double>(diagonal) - static_cast<double>(moments[i])) > kRounding * size[i] * size[i]) {
      return fail(i, i, diagonal, moments[i]);
    }
  }
  // By squares, of which a row and a column fit the cache.
  constexpr std::uint64_t kSide = 64;
  for (std::uint64_t top = 0; top < n; top += kSide) {
    for (std::uint64_t left = 0; left <= top; left += kSide) {
      for (std::uint64_t i = top; i < std::min(top + kSide, n); ++i) {
        for (std::uint64_t j = left; j < std::min(left + kSide, i); ++j) {
          const float lower = hessian[i * n + j], upper = hessian[j * n + i];
          if (std::abs(static_cast<double>(lower) - static_cast<double>(upper)) > kRounding * size[i] * size[j]) {
            return fail(i, j, lower, upper);
          }
        }
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace q4
