// The kinds of files that hold tensors and that q4 reads: a row each, in one table. Finding a checkpoint in a
// directory, telling by content what a file is, shards behind an index: all of it goes by the rows (open_checkpoint.cc,
// shard_index.cc). To add a format, write its reader, add a row, and where its content has a mark a FileKind (sniff.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/note.h"
#include "formats/safetensors/sniff.h"
#include "formats/source/companions.h"
#include "formats/source/foreign.h"
#include "formats/source/source_remarks.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// One of several files that belong together and say so themselves, without an index.
struct SourcePart {
  std::uint64_t number = 0;              // from 0
  std::uint64_t count = 0;               // of files, at least 2
  std::optional<std::uint64_t> tensors;  // of all files together, where it is said
};

// What the header of one file says.
struct SourceHeader {
  std::vector<SourceTensor> tensors;      // in payload order, SourceExtent::file 0
  SourceRemarks remarks;                  // what is neither in the tensors nor in `metadata`
  std::vector<SourceChecksum> checksums;  // by offset, disjoint
  std::vector<Note> notes;                // what is odd about the file
  std::optional<SourcePart> part;         // nullopt for a file that is alone
  // What the file says beside its tensors, to be carried as a companion of this name. Always a range of the file, whose
  // path, identity and version the caller adds.
  std::optional<CompanionFile> metadata;
  std::optional<Foreign> foreign;  // the file says of itself that it is no model
};

// One row. The texts are static, the functions pure but for reading the file, and may be called from any thread.
struct SourceFormat {
  std::string_view name;  // "safetensors": what Checkpoint::format() and the provenance say
  // Of its files in a directory: ".safetensors"; several are separated by single spaces. An index of shards has
  // ".index.json" more.
  std::string_view ending;
  std::string_view model_file;  // the one that is taken among several: "model.safetensors", or else its index
  // Likewise where there is none, as in components of diffusers pipelines; "" where no such name is usual.
  std::string_view component_file;
  // Whether a file that begins like this is for this reader, whatever its name. The last row that says so has it.
  bool (*recognises)(FileKind kind);
  // Reads and validates the header of one file, no payload byte. A file without tensors is no error. Errors: as
  // OpenCheckpoint().
  absl::StatusOr<SourceHeader> (*read_header)(const RandomAccessFile& file);
  // Whether a file may be a part (SourceHeader::part): then a directory with the parts of one model holds one
  // checkpoint, and any of them stands for all (split_files.h).
  bool has_parts = false;
  // Names of files that a directory is searched for only when it holds no others of the ending: patterns as in
  // companion_kinds.h.
  std::string_view lesser = {};
};

// In the order in which a directory is searched: what it holds of an earlier row hides what it holds of a later one.
std::span<const SourceFormat> SourceFormats();

// Whether the name ends as those of the format's files do, with `more` behind.
bool HasEnding(const SourceFormat& format, std::string_view name, std::string_view more = {});

// The row for a file of this kind. There always is one: the first row takes what no other recognises, and its reader
// says what is wrong with it.
const SourceFormat& SourceFormatOf(FileKind kind);

}  // namespace q4
