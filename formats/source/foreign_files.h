// What OpenCheckpoint() asks to know a foreign checkpoint (foreign.h) by its files. Internal to this wing.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/checkpoint.h"

namespace q4 {

// A directory with an adapter's files, and no weights that bear the name of a model's.
struct AdapterFolder {
  Foreign foreign;      // its kind comes from peft_type in adapter_config.json
  std::string weights;  // the path of its safetensors file, or "" for none
};
absl::StatusOr<std::optional<AdapterFolder>> FindAdapterFolder(FileSystem& fs, const std::string& directory);

// config.json and the files of quantizers that lie in `folder` ("" or a module folder), config.json first: it is what
// loaders read. A file that is too large, or left out and cannot be read, tells nothing. Errors: I/O.
absl::StatusOr<std::vector<SideText>> TextsInFolder(FileSystem& fs, const CheckpointContent& content,
                                                    std::string_view folder);

// FindAdapter() and FindQuantization() for a checkpoint that is complete but for this, with its config.json and the
// files of quantizers among what it leaves out. `dequantized`: folders of which the tensors alone are asked, for what
// the texts say of them was heeded (ReadDequantized()). Errors: as TextsInFolder().
absl::StatusOr<std::optional<Foreign>> FindForeign(FileSystem& fs, const CheckpointContent& content,
                                                   const std::vector<std::string>& dequantized,
                                                   std::vector<Note>* notes);

}  // namespace q4
