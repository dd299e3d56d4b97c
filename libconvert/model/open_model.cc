// Tools that take both kinds of models begin here. A path is told apart by the first bytes of its file alone, in two
// steps: the magic number of a container, then the beginning of a shard list. A directory and whatever has neither of
// the two goes to the checkpoint readers, which know many other kinds and name them in their errors.
#include "libconvert/model/open_model.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "formats/base/status.h"
#include "formats/q4/layout.h"
#include "formats/q4/q4_issues.h"
#include "formats/q4/shards.h"
#include "formats/safetensors/sniff.h"
#include "libconvert/base/budget.h"

namespace q4 {
namespace {

// For the message about a file that is no container: its kind, and the tool for it.
absl::StatusOr<std::string> WhatItIs(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<RandomAccessFile> file, fs.OpenForRead(path));
  if (file->size() == 0) return std::string("the file is empty");
  std::vector<std::uint8_t> head(static_cast<std::size_t>(std::min<std::uint64_t>(file->size(), kSniffBytes)));
  Q4_RETURN_IF_ERROR(file->ReadAt(0, head));
  return DescribeInsteadOfContainer(head);
}

}  // namespace

absl::StatusOr<bool> IsQ4Container(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (info.is_directory) return false;
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<RandomAccessFile> file, fs.OpenForRead(path));
  // Files may be shorter than what is looked for; then they are compared as they are and differ.
  std::vector<std::uint8_t> head(std::min<std::uint64_t>(file->size(), kQ4Magic.size()));
  Q4_RETURN_IF_ERROR(file->ReadAt(0, head));
  if (std::equal(kQ4Magic.begin(), kQ4Magic.end(), head.begin(), head.end())) return true;
  // A shard list is JSON, so that its beginning is longer than a magic number. It is read only where the magic did not
  // match.
  head.resize(std::min<std::uint64_t>(file->size(), kQ4ShardListHeadBytes));
  Q4_RETURN_IF_ERROR(file->ReadAt(0, head));
  return IsQ4ShardListHead({reinterpret_cast<const char*>(head.data()), head.size()});
}

absl::StatusOr<std::unique_ptr<Q4Model>> OpenContainer(FileSystem& fs, const std::string& path,
                                                       const std::optional<Sha256>& root) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (info.is_directory) {
    return Fail(kQ4NotAContainer, path, {},
                "a directory; name the .q4 file. A model directory is for q4convert and q4inspect");
  }
  Q4_ASSIGN_OR_RETURN(const bool is_container, IsQ4Container(fs, path));
  if (is_container) {
    Q4_ASSIGN_OR_RETURN(std::unique_ptr<Q4Model> model, Q4Model::Open(fs, path));
    Q4_RETURN_IF_ERROR(model->RequireRoot(root));
    return model;
  }
  Q4_ASSIGN_OR_RETURN(const std::string what, WhatItIs(fs, path));
  return Fail(kQ4NotAContainer, path, {}, what);
}

absl::StatusOr<OpenedModel> OpenModel(FileSystem& fs, const std::string& path, const OpenOptions& options) {
  OpenedModel model;
  model.path = path;
  Q4_ASSIGN_OR_RETURN(const bool is_container, IsQ4Container(fs, path));
  if (is_container) {
    Q4_ASSIGN_OR_RETURN(model.container, Q4Model::Open(fs, path));
  } else {
    Q4_ASSIGN_OR_RETURN(model.checkpoint, OpenCheckpoint(fs, path, options));
  }
  return model;
}

std::uint64_t IndexMemory(const Q4Model& model, std::uint64_t tensor_bytes) {
  std::uint64_t bytes = 0;
  for (const auto& shard : model.shards()) {
    bytes += shard->seal().index_bytes;
    for (const Q4Tensor& tensor : shard->index().tensors) bytes += tensor_bytes + tensor.name.size();
  }
  return IndexBeyondAllowance(bytes);
}

absl::StatusOr<std::vector<ReadableTensor>> TensorsOf(const OpenedModel& model) {
  if (model.checkpoint != nullptr) return TensorsOf(*model.checkpoint);
  std::vector<ReadableTensor> tensors;
  tensors.reserve(model.container->tensors().size());
  for (const Q4Model::Location& at : model.container->tensors()) tensors.push_back(ReadableFrom(*model.container, at));
  return tensors;
}

absl::StatusOr<std::optional<ReadableTensor>> FindTensor(const OpenedModel& model, std::string_view name) {
  if (model.container != nullptr) {
    const Q4Model::Location* at = model.container->Find(name);
    if (at == nullptr) return std::nullopt;
    return ReadableFrom(*model.container, *at);
  }
  // Which tensors belong to a weight is known only after all quant_state texts were read, so the whole list is made and
  // the one tensor is moved out of it.
  Q4_ASSIGN_OR_RETURN(std::vector<ReadableTensor> tensors, TensorsOf(*model.checkpoint));
  for (ReadableTensor& tensor : tensors) {
    if (tensor.tensor.name == name) return std::move(tensor);
  }
  return std::nullopt;
}

}  // namespace q4
