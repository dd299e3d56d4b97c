// A checkpoint in several files that name each other, "model-00001-of-00003.gguf", as gguf-split and GGUF's own writer
// make them: each says its number and how many there are, and no index lists them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/shard_index.h"
#include "formats/source/source_formats.h"

namespace q4 {

// Of names of files in one directory, bytewise sorted: of each set of parts the first that is there, and every name
// that is none of a part.
std::vector<std::string> OnePartOfEach(std::vector<std::string> names);

// Opens all parts of which `given` is one, in the directory of that, and holds them against each other; `header` is
// that of `given`, with SourceHeader::part. The format of the payload is that of its files, with their names from the
// first to the last. `links` is about the other parts.
//
// Errors (exit code 3): kPartName, kTooManyShards, kShardMissing naming the parts that are absent, kPartMismatch,
// kTooManyTensors, kDuplicateTensor, and whatever is wrong with a part; I/O.
absl::StatusOr<CheckpointPayload> OpenParts(FileSystem& fs, std::shared_ptr<RandomAccessFile> given,
                                            SourceHeader header, const SourceFormat& format, SymbolicLinks links);

// Completes the metadata of `file`'s own header with where it lies.
void PlaceCompanion(const RandomAccessFile& file, CompanionFile* metadata);

}  // namespace q4
