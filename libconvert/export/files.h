// The weight files of an exported checkpoint: which tensor goes where, and the bytes around them. Tensors of a module
// folder (formats/source/modules.h) go into files of that folder, without its name.
// LayOutWeights() fixes the place of every byte, then a WeightWriter puts the bytes there in any order. What lies in
// one file, header and padding included, is computed by formats/exchange/safetensors_writer.h; files that are no
// weights are ExportModel()'s. Internal to libconvert/export/.
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
  std::string name;         // inside the output directory, '/' separated
  std::string head;         // all bytes before the first tensor
  std::uint64_t bytes = 0;  // of the whole file
};

// Where everything goes. Of the plan it was made from it knows the order of the targets only.
struct WeightLayout {
  // A target's first byte; the others follow it without a gap.
  struct Place {
    std::uint32_t file = 0;    // index into files
    std::uint64_t offset = 0;  // from the beginning of the file, in bytes
  };
  std::vector<WeightFile> files;  // at least one, also of no targets
  // The index that is written beside several files.
  std::string index_name = "model.safetensors.index.json";
  std::vector<Place> places;       // one per target
  std::uint64_t tensor_bytes = 0;  // of all targets
  // Those that got several files, which an index must list; "" is the output directory.
  std::vector<std::string> indexed_folders;
};

// model.safetensors.index.json, which is written beside several weight files of a folder.
inline constexpr char kWeightIndexName[] = "model.safetensors.index.json";
// Lays `targets` out in model.safetensors or, if one file would hold more than `shard_bytes` of tensors, in
// model-00001-of-0000N.safetensors and so on, in the order of the targets' groups; a group larger than `shard_bytes`
// has a file for itself. 0: one file. Inside a file tensors lie as save_pretrained lays them. Each of `folders`,
// bytewise sorted, that has targets is laid out so on its own, after the output directory itself. `more_metadata`:
// as in PlanSafetensors(). Pure.
//
// `files`: instead of a size, the number of the file that each target lies in; those of a folder are named in the order
// of their numbers. Empty: not given.
//
// REQUIRES: groups ascend; `files` is empty or as long as `targets`. Errors: kExportNameCollision (exit code 5) if two
// targets of any files have the same name; kExportShards (1) if there were more than limits::kShards files; those of
// PlanSafetensors() (3).
absl::StatusOr<WeightLayout> LayOutWeights(const std::vector<ExportTensor>& targets,
                                           std::span<const std::string> folders, std::uint64_t shard_bytes,
                                           std::string_view more_metadata = {},
                                           std::span<const std::uint32_t> files = {});

// Gives the files of `layout` the names of a component of a diffusers pipeline: diffusion_pytorch_model.safetensors and
// so on.
void NameAsComponent(WeightLayout* layout);

// The text of the model.safetensors.index.json of `folder`, one of layout.indexed_folders: which of its files each of
// `targets`, those of the layout, lies in. `parameters`: logical elements of all of the folder's tensors that are
// exported. `said`: totals to write instead of those that are counted here.
std::string WeightIndexText(const WeightLayout& layout, const std::vector<ExportTensor>& targets,
                            std::string_view folder, std::uint64_t parameters,
                            const std::optional<IndexTotals>& said = {});

// Puts bytes in their places. Write() may be called by several threads at once, for the same file as well.
class WeightWriter {
 public:
  // `files` are those of the layout, in order, empty and open; both must outlive the writer.
  WeightWriter(const WeightLayout* layout, const std::vector<WritableFile*>& files);

  // Reserves space and writes what precedes the tensors. Once, before the first Write(). kCannotReserve if the disk is
  // too small, kCannotWrite.
  absl::Status Begin();
  // Writes `bytes` at `offset` inside the target, which is an index into the layout's places. REQUIRES: they end within
  // the target. Each byte should be written once; what is not written stays a hole. kCannotWrite.
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
