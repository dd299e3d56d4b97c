// What is known of the inputs of a model's linear layers: a calibration file (docs/calibration.md), a safetensors file
// of second moments and, for some inputs, of their Hessian. Encoders that weigh errors by it are named `weighted` and
// `feedback`; whoever made the file has run the model, nobody here does.
//
// The file is read once from front to back when it is opened: its digest is taken, and every number in it is looked at.
// What is kept is an entry for each input; moments and Hessians are read again by those who need them, and a file that
// has changed in between is an error.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/tensor/tensor.h"

namespace q4 {

// How the name of such a file ends, where a folder has several.
inline constexpr std::string_view kCalibrationEnding = ".safetensors";

// An input: what one or several weights are multiplied by. That of a stack of experts [matrices, ...] is one entry, in
// which each matrix has numbers of its own.
struct InputStatistics {
  std::string name;           // of the first weight that has it, as a rule
  std::uint64_t columns = 0;  // features: what a linear layer calls `in`
  std::uint64_t matrices = 1;
  bool stacked = false;      // the weight has three dimensions
  std::uint64_t tokens = 0;  // of all matrices; of one that is not stacked at least 1
  std::uint64_t idle = 0;    // matrices of a stack that no token came to: their moments are 0
  bool has_hessian = false;
  // Where they lie in the file, in bytes.
  std::uint64_t moments_at = 0, hessian_at = 0;
};

// The input of a weight; `input` is nullptr for none.
struct WeightInput {
  const InputStatistics* input = nullptr;
  // The weight is stored as (in, out), as GPT-2's Conv1D does, and not as (out, in): an element's row is its feature.
  bool transposed = false;
};

// An open calibration file. Immutable and thread-safe.
class Calibration {
 public:
  // Reads the whole file and checks all of it but what only a whole Hessian can tell. Errors: 362x, 5620
  // (calibration_issues.h), those of ReadSafetensorsHeader() and of reading.
  static absl::StatusOr<std::shared_ptr<const Calibration>> Open(FileSystem& fs, const std::string& path);

  const std::string& path() const { return file_->path(); }
  // SHA-256 of the file, in hexadecimal: what sha256sum prints.
  const std::string& digest() const { return digest_; }
  // In bytes.
  std::uint64_t file_bytes() const { return file_->size(); }
  // The most that any input has seen; of an expert its own.
  std::uint64_t tokens() const { return tokens_; }
  // The text of `provenance`, as its maker wrote it: for people, not relied upon. "" if there is none.
  const std::string& provenance() const { return provenance_; }
  // Names of weights that it has an input for.
  std::size_t weights() const { return weights_.size(); }

  // The input that the file gives a weight of exactly this name, if any. It lives as long as this object.
  WeightInput Find(std::string_view weight) const;

  // The inputs of all weights of a checkpoint, in the order of `names`.
  // A name that is not in the file is looked for with one leading module less (`model.layers.0...` where the file says
  // `layers.0...`) and with one more; it is taken if it is one name of the file, and of no other of `names`: models are
  // calibrated with and without the head they were saved with. The answer depends on all of `names` together.
  std::vector<WeightInput> Match(std::span<const std::string_view> names) const;

  // moments[matrices * columns], matrix by matrix: the mean of x_j * x_j over the tokens. Finite and not negative.
  // Errors: those of reading, and kFileChanged.
  absl::Status ReadMoments(const InputStatistics& input, std::span<float> moments) const;

  // hessian[columns * columns] of one matrix, row-major: the mean of x_i * x_j. It is symmetric up to rounding and has
  // the second moments as its diagonal, else kCalibrationHessian; whether it is positive definite is for those to find
  // who factorize it. Errors also as ReadMoments(). REQUIRES: input.has_hessian, matrix < input.matrices.
  absl::Status ReadHessian(const InputStatistics& input, std::uint64_t matrix, std::span<float> hessian) const;

 private:
  struct NamedWeight {
    std::string name;
    std::uint32_t input = 0;  // index in inputs_
    bool transposed = false;
  };
  // A name of weights_ without its first module, and the index there.
  using Tail = std::pair<std::string_view, std::uint32_t>;
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  Calibration() = default;
  absl::Status NameWeights(const std::string& text, bool transposed);
  absl::Status SortWeights();
  WeightInput InputOf(const NamedWeight& weight) const { return {&inputs_[weight.input], weight.transposed}; }
  // Indices in weights_: of exactly this name, and of what is meant by a name that is not there. kNone for none or
  // several.
  std::uint32_t FindExactly(std::string_view weight) const;
  std::uint32_t FindLoosely(std::string_view weight) const;
  absl::Status ReadFloats(std::uint64_t at, std::span<float> floats) const;

  std::unique_ptr<RandomAccessFile> file_;
  std::string digest_, provenance_;
  std::uint64_t tokens_ = 0;
  std::vector<InputStatistics> inputs_;
  std::vector<NamedWeight> weights_;  // by name
  std::vector<Tail> tails_;           // in order
};

}  // namespace q4
