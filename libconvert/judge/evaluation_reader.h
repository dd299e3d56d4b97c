// Reads the documents of q4.evaluate (docs/schema/evaluation.schema.json). They come from anywhere: everything that is
// used is checked, and what a version does not have is refused.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/q4/reader.h"
#include "libconvert/base/progress.h"
#include "libconvert/judge/evaluation.h"

namespace q4 {

// A document: one original, and the models that were held against it.
struct EvaluationDocument {
  std::string path;
  std::vector<Evaluation> models;
};

// `path` is named in errors: kEvaluationShape, kEvaluationVersion, or whatever makes it no JSON.
absl::StatusOr<EvaluationDocument> ParseEvaluation(std::string_view json, const std::string& path);

// Reads and parses one, of 64 MiB at most.
absl::StatusOr<EvaluationDocument> LoadEvaluation(FileSystem& fs, const std::string& path);

// The evaluation of `model`: of the same root, else of the same content (content_identity.h), for which a compressed
// container is read on so many threads. kEvaluationOther where the document has none.
absl::StatusOr<Evaluation> EvaluationOf(const EvaluationDocument& document, const Q4Model& model, unsigned threads,
                                        CancelFlag* cancel);

}  // namespace q4
