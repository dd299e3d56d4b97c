// A checkpoint that torch.save wrote, as the tensors of its state dict. The archive is read in place: a tensor is a
// range of the file, or elements that lie apart in one (SourceRecipe::kStrided). Nothing of the pickle is executed.
//
// The state dict is the pickled dictionary itself, or a dictionary in it by a name that the field uses: {"state_dict":
// ...}, {"model": ...} and others, at any depth. What stands beside it, such as an optimizer, is counted and named.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// Something in the pickle that is none of the model's tensors.
struct TorchLeftOut {
  std::string name;           // "optimizer", "epoch": keys from the outermost dictionary on, joined by '/'; untrusted
  std::uint64_t tensors = 0;  // in it
  std::uint64_t bytes = 0;    // of their elements
};

struct TorchCheckpoint {
  std::vector<SourceTensor> tensors;      // in payload order, SourceExtent::file 0; names are unique
  std::vector<SourceChecksum> checksums;  // of the records, but for those whose writer computed none
  std::vector<TorchLeftOut> left_out;     // in the order of the pickle
};

// Reads and validates archive, pickle and every tensor of the state dict; of the payload nothing. Tensors may share
// bytes, as tied weights do, and need not fill the file. Time and memory by the number of records and of pickled
// values. Errors: torch_issues.h, and those of ReadAt().
absl::StatusOr<TorchCheckpoint> ReadTorchCheckpoint(const RandomAccessFile& file);

}  // namespace q4
