// What repacking a container will write: which tensors and files go into which shard, what the provenance says. Reads
// the indices and nothing of the payload; the same container and options give the same plan, and the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/note.h"
#include "formats/q4/chunk.h"
#include "formats/q4/container.h"
#include "formats/q4/reader.h"

namespace q4 {

// A file to be embedded: added, or in place of the one of that name.
struct AddedFile {
  std::string name;  // in the container
  std::string path;  // on the disk
};

// What decides the bytes beside the container. What is not given stays as it is.
struct RepackOptions {
  std::optional<Q4Compression> compression;
  std::optional<std::uint64_t> shard_bytes;  // as ConvertOptions::shard_bytes
  std::vector<AddedFile> added;
  std::vector<std::string> dropped;  // names of embedded files
  std::string tensor_pattern;        // NamePattern of the tensors that are taken; "": all
};

// One file that will be written. Indices into `index` are those of a writer.
struct RepackedShard {
  struct Tensor {
    Q4Model::Location from;
    std::size_t tensor = 0;  // into index.tensors
  };
  // A file of the container's first shard, or one of RepackPlan::added.
  struct File {
    bool added = false;
    std::size_t from = 0;
  };
  Q4Index index;  // of tensors all but where their chunks lie
  // In payload order, which is that of the container: that of its source.
  std::vector<Tensor> tensors;
  std::vector<File> files;  // of index.files; only the first shard has some
  std::string provenance;
  std::uint64_t file_bytes = 0;  // without compression exact, else an upper bound
};

// Made by PlanRepack(). Belongs to the model and is used with it.
struct RepackPlan {
  std::vector<RepackedShard> shards;  // one or more
  std::vector<std::unique_ptr<RandomAccessFile>> added;
  Q4Compression compression;  // of what is encoded
  // The container's chunks are packed as they are to be: their bytes are copied.
  bool keeps_packing = false;
  std::uint64_t source_bytes = 0;   // of the container's files
  std::uint64_t output_bytes = 0;   // sum of file_bytes
  std::uint64_t payload_bytes = 0;  // before compression, of what is taken
  std::uint64_t largest_chunk = 1;  // before compression
  std::vector<Note> notes;          // for people
};

// Errors: those of ReadProvenance() (exit code 6, or 5 for one of a newer version); of repack_issues.h and
// NamePattern::Parse() (1); kTooManyParts (1); of opening the added files, kFileTooLarge (3) among them, and of
// ParseModelJson() for an added config.json. `fs` must outlive the plan.
absl::StatusOr<RepackPlan> PlanRepack(FileSystem& fs, const Q4Model& model, const RepackOptions& options);

}  // namespace q4
