// From a pickled tensor to a range of the file: its storage is a record of the archive, the tensor a view of that.
// Internal to this wing.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/tensor/source_tensor.h"
#include "formats/torch/pickle_program.h"
#include "formats/torch/zip_archive.h"

namespace q4 {

// Whether a value is a tensor, of whatever kind.
bool IsPickledTensor(const PickleProgram& program, PickleId id);

class TorchViews {
 public:
  // `root`: the archive's folder, with its '/'. None is owned; all must outlive this.
  TorchViews(const PickleProgram& program, const std::vector<ZipEntry>& entries, std::string_view root,
             std::string_view file);

  // The tensor at `id` by that name. REQUIRES: IsPickledTensor(id). Errors: kTorchTensorKind, kTorchStorage,
  // kTorchStorageSize, kTorchShape, kTorchView, kTorchExpanded, kTorchHooks, kPickleOperand.
  absl::StatusOr<SourceTensor> Tensor(PickleId id, std::string name) const;

  // How many bytes the elements have, as far as the value says; 0 where it does not. For counting what is left out.
  std::uint64_t BytesOf(PickleId id) const;

 private:
  struct Storage {
    DType dtype = DType::kF32;
    const ZipEntry* record = nullptr;
  };
  // What a function that makes a tensor was given.
  struct Arguments {
    std::span<const PickleId> items;  // enough of them
    bool typed = false;               // of _rebuild_tensor_v3, else of v2
  };
  // Those of the tensor itself, without Parameter and types around it. Errors: kTorchTensorKind, kTorchHooks.
  absl::StatusOr<Arguments> Unwrap(PickleId id, std::string_view name) const;
  absl::StatusOr<Storage> StorageOf(PickleId id, PickleId dtype, std::string_view name) const;
  absl::Status CheckHooks(PickleId id, std::string_view name) const;

  const PickleProgram& program_;
  std::string_view file_;
  std::unordered_map<std::string_view, const ZipEntry*> storages_;  // by key: the name behind "data/"
};

}  // namespace q4
