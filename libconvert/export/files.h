// The weight files of an exported checkpoint: which tensor goes where, and the bytes around them.
// Internal to libconvert/export/.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "libconvert/export/pieces.h"

namespace q4 {

// One safetensors file, complete but for the tensors' bytes.
struct WeightFile {
  std::string name;
  std::string head;         // all bytes before the first tensor
  std::uint64_t bytes = 0;  // of the whole file
};

struct WeightLayout {
  struct Place {
    std::uint32_t file = 0;    // index into files
    std::uint64_t offset = 0;  // absolute
  };
  std::vector<WeightFile> files;
  std::vector<Place> places;       // one per target
  std::uint64_t tensor_bytes = 0;  // of all targets
};

// model.safetensors.index.json, which is written beside several weight files.
inline constexpr char kWeightIndexName[] = "model.safetensors.index.json";
// Whether an export may give a weight file this name, with any number of files.
bool IsWeightFileName(std::string_view name);

// Lays `targets` out in model.safetensors or, if one file would hold more than `shard_bytes` of tensors, in
// model-00001-of-0000N.safetensors and so on, in the order of the targets' groups; a group larger than `shard_bytes`
// has a file for itself. 0: one file. Inside a file tensors lie as save_pretrained lays them. Pure. Fails if two
// targets have the same name (exit code 5) or there are too many files (1).
absl::StatusOr<WeightLayout> LayOutWeights(const std::vector<ExportTensor>& targets, std::uint64_t shard_bytes);

// model.safetensors.index.json: for a layout of several files.
std::string WeightIndexText(const WeightLayout& layout, const std::vector<ExportTensor>& targets,
                            std::uint64_t parameters);

// Puts bytes in their places. Thread-safe.
class WeightWriter {
 public:
  // `files` are those of the layout, in order, empty and open; both must outlive the writer.
  WeightWriter(const WeightLayout* layout, const std::vector<WritableFile*>& files);

  // Reserves space and writes what precedes the tensors.
  absl::Status Begin();
  // Writes `bytes` at `offset` inside the target.
  absl::Status Write(std::uint32_t target, std::uint64_t offset, std::span<const std::uint8_t> bytes);

 private:
  struct Output {
    WritableFile* file = nullptr;
    std::mutex mutex;  // a WritableFile is used by one thread at a time
  };
  const WeightLayout& layout_;
  std::vector<std::unique_ptr<Output>> outputs_;
};

}  // namespace q4
