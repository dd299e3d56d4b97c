// What q4.evaluate found out about a model (docs/evaluate.md), as q4verify --evaluation takes it. Plain data;
// evaluation_reader.h reads it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/base/digest.h"

namespace q4 {

// A number that an evaluation can hold and a gate can limit.
struct EvaluationNumber {
  std::string_view name;  // as in the document: "kl_mean"
  std::string_view what;  // for people
  double least, most;     // what it can be
};
// All of them, in the order of docs/evaluate.md. Static.
std::span<const EvaluationNumber> EvaluationNumbers();
// Null when there is none of that name.
const EvaluationNumber* FindEvaluationNumber(std::string_view name);

// A linear layer of the evaluated model.
struct EvaluatedLayer {
  std::string name;        // of the module
  std::uint64_t rows = 0;  // input vectors that it was measured on
  double error = 0;        // relative squared error of its output; NaN where it does not exist
};

// A file with weights of the original.
struct EvaluatedFile {
  std::string name;
  Sha256 sha256{};
};

// Of one container.
struct Evaluation {
  std::string path;           // of the document
  std::string name;           // that it has there
  std::string task;           // "causal_lm", "logits", "embedding"
  std::string original;       // its path; "" for a model that had none
  std::string inputs_kind;    // "texts", "file", "batches"
  std::string inputs_sha256;  // 64 hex digits
  std::uint64_t sequences = 0, tokens = 0, compared = 0, truncated = 0;
  std::vector<EvaluatedFile> original_files;  // empty where it was no directory
  // Whether these are the files that the container was made from; nullopt where nobody can tell.
  std::optional<bool> original_is_source;
  std::optional<Sha256> root, content;  // of the container; nullopt of what is none
  // In the document's order; NaN for null. Pointers into the static table.
  std::vector<std::pair<const EvaluationNumber*, double>> numbers;
  std::vector<EvaluatedLayer> layers;  // in the order of the model

  // nullopt where the evaluation has none of that name.
  std::optional<double> Number(std::string_view number) const;
  // The layers with the largest errors, the worst first, NaN before all; at most `count`. Pointers into `layers`.
  std::vector<const EvaluatedLayer*> WorstLayers(std::size_t count) const;
};

}  // namespace q4
