// What a container says about how it was made (docs/format.md section 8), as far as tools look into it: who wrote it,
// with which options, and the source files with their digests. q4verify compares these files with the ones it is given,
// q4inspect prints all of it. The text is a statement of the writer. The root covers it, so nobody changed it later,
// but nothing in the container proves that it is true.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/json_value.h"
#include "formats/q4/reader.h"
#include "formats/source/left_out.h"
#include "formats/tensor/tensor.h"

namespace q4 {

// A file of the source as the conversion read it.
struct SourceFileRecord {
  // Plain file name, as in the shard index of the checkpoint; untrusted, so it is escaped before it is printed.
  std::string name;
  // In bytes; 0 if it is not recorded.
  std::uint64_t size = 0;
  // "sha256", "xxh3", or "" when no digest is recorded.
  std::string digest_kind;
  // Over the whole file, as lower-case hexadecimal.
  std::string digest;
};

// Members that are absent, or of another type than expected, are left at their defaults: provenance is a statement of
// the writer and decides nothing about how the payload is read.
struct ProvenanceView {
  // "q4convert 0.1.0": name and version of the writer.
  std::string tool;
  // "q4n-1": the version of the arithmetic (numerics Q10.7); "" if it is not recorded.
  std::string numerics;
  // The dtype that kept float tensors were converted to (--keep-dtype); nullopt if each has its own dtype of the
  // source.
  std::optional<DType> keep_dtype;
  // In the order of the document; empty if it has no list of them.
  std::vector<SourceFileRecord> sources;
  // What lay in the source's folder and was not carried, as the conversion saw it. Untrusted: escaped before it is
  // printed.
  std::vector<LeftOutFile> left_out;
  // The whole document, for members that only a report prints.
  Json document;
};

// Parses the provenance of a container file, or the joined one of a model. `path` is named in errors. Fails if the text
// is no JSON or is nested too deeply; a document that is no object leaves every member at its default. The text is not
// trusted.
absl::StatusOr<ProvenanceView> ParseProvenance(std::string_view text, std::string_view path);

// What the shards of a model say together, as one document; `documents` are theirs in order, at least one. The document
// of the first shard with the source files of all, each once, because each shard lists only the files that it was read
// from. A single document is returned as it is. If one of several is no JSON object, its text is returned: the whole is
// not known then.
std::string JoinedProvenance(std::span<const std::string_view> documents);
// That of the shards of `model`, or of the one that was opened alone.
// The joined provenance of the shards of `model`; of one shard that was opened alone its own.
std::string ModelProvenance(const Q4Model& model);

// The recorded options on one line, "type nf4, block_size 64", in the order of the document and without those that were
// left empty. Names and values are not escaped for a terminal: the caller does it.
std::string ConversionOptions(const ProvenanceView& view);

}  // namespace q4
