// What an export would write, told instead of written: for callers that make in memory what a loader would find in the
// directory, such as the Python package. So there is one copy of every rule about names, parts and config.json.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "formats/tensor/tensor.h"
#include "libconvert/export/export.h"

namespace q4 {

// A tensor of the new checkpoint, and how it comes about.
struct OutlinedTensor {
  enum class Made : std::uint8_t {
    kStored,   // it is `part` of `source` as the container has it, after decompression
    kDecoded,  // the elements of `source`, in `dtype`
    kGiven,    // `bytes`, which follow from settings: tables and texts
  };
  std::string name;    // of a module's tensor it begins with the folder, which its file of weights leaves out
  std::string source;  // the container's name
  std::string folder;  // of the module that its file lies in (formats/source/modules.h); "" for the model's own
  DType dtype = DType::kF32;
  Shape shape;
  Made made = Made::kStored;
  Q4Part part = Q4Part::kData;      // of kStored
  std::vector<std::uint8_t> bytes;  // of kGiven
  bool in_4bit = false;             // one of the tensors that a weight in 4 bits consists of
  bool expert = false;              // of experts that transformers holds fused (policy/experts.h)
};

struct OutlinedFile {
  std::string name, content;
};

struct ExportOutline {
  std::vector<OutlinedTensor> tensors;  // source by source, in the container's order
  // Each config.json as it would be written; other embedded files are copied as they are.
  std::vector<OutlinedFile> files;
  std::vector<std::string> warnings;  // as ExportReport::warnings
};

// Pure but for the embedded files that are read. Errors: those of ExportModel() that speak of the model and of options;
// no output is looked at.
absl::StatusOr<ExportOutline> OutlineExport(const Q4Model& model, const ExportOptions& options);

}  // namespace q4
