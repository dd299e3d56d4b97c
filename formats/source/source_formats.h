// The kinds of files that hold tensors and that q4 reads: a row each, in one table. Finding a checkpoint in a
// directory, telling by content what a file is, shards behind an index: all of it goes by the rows (open_checkpoint.cc,
// shard_index.cc). To add a format, write its reader, add a row, and where its content has a mark a FileKind (sniff.h).
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/sniff.h"
#include "formats/source/source_remarks.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// What the header of one file says.
struct SourceHeader {
  std::vector<SourceTensor> tensors;  // in payload order, SourceExtent::file 0
  SourceRemarks remarks;
  std::vector<SourceChecksum> checksums;  // by offset, disjoint
};

// One row. The texts are static, the functions pure but for reading the file, and may be called from any thread.
struct SourceFormat {
  std::string_view name;  // "safetensors": what Checkpoint::format() and the provenance say
  // Of its files in a directory: ".safetensors"; several are separated by single spaces. An index of shards has
  // ".index.json" more.
  std::string_view ending;
  std::string_view model_file;      // the one that is taken among several: "model.safetensors", or else its index
  std::string_view component_file;  // likewise where there is none, as in components of diffusers pipelines
  // Whether a file that begins like this is for this reader, whatever its name. The last row that says so has it.
  bool (*recognises)(FileKind kind);
  // Reads and validates the header of one file, no payload byte. A file without tensors is no error. Errors: as
  // OpenCheckpoint().
  absl::StatusOr<SourceHeader> (*read_header)(const RandomAccessFile& file);
};

// In the order in which a directory is searched: what it holds of an earlier row hides what it holds of a later one.
std::span<const SourceFormat> SourceFormats();

// Whether the name ends as those of the format's files do, with `more` behind.
bool HasEnding(const SourceFormat& format, std::string_view name, std::string_view more = {});

// The row for a file of this kind. There always is one: the first row takes what no other recognises, and its reader
// says what is wrong with it.
const SourceFormat& SourceFormatOf(FileKind kind);

}  // namespace q4
