// What a container says about how it was made (docs/format.md section 8), as far as tools look into it: who wrote it,
// with which options, and the source files with their digests. q4verify compares these files with the ones it is given,
// q4inspect prints all of it. The text is a statement of the writer. The root covers it, so nobody changed it later,
// but nothing in the container proves that it is true: q4verify holds what can be held against it. The form of the
// document is closed (provenance_form.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/json_value.h"
#include "formats/folder/left_out.h"
#include "formats/q4/reader.h"
#include "formats/tensor/tensor.h"
#include "libconvert/scheme/quant_settings.h"

namespace q4 {

// A file of the source as the conversion read it.
struct SourceFileRecord {
  // Plain file name, as in the shard index of the checkpoint, or with the module folder it lies in; untrusted, so it is
  // escaped before it is printed.
  std::string name;
  // In bytes.
  std::uint64_t size = 0;
  // "sha256" or "xxh3".
  std::string digest_kind;
  // Over the whole file, as lower-case hexadecimal.
  std::string digest;
};

// The options that decided the bytes, as a conversion takes them. Patterns and recipe are texts, which are not compiled
// here: libconvert/policy does.
struct RecordedOptions {
  QuantSettings defaults;
  // Of encoders that search (--effort). The default where the document has none.
  int effort = kDefaultEffort;
  // The dtype that kept float tensors were converted to (--keep-dtype); nullopt if each has its own dtype of the
  // source.
  std::optional<DType> keep_dtype;
  bool keep_nonfinite = false;
  bool compressed = false;
  struct Pattern {
    bool include = false;
    std::string regex;
  };
  std::vector<Pattern> patterns;
  std::optional<std::string> recipe;
  std::uint64_t shard_bytes = 0;
  bool shard_by_source = false;  // ConvertOptions::shard_by_source
};

struct ProvenanceView {
  // "q4convert" and "0.1.0": name and version of the writer.
  std::string tool_name, tool_version;
  // "q4n-1": the version of the arithmetic (numerics Q10.7).
  std::string numerics;
  // What the source's reader called it: Checkpoint::format(). Untrusted.
  std::string source_format;
  // nullopt where the document records none: {}.
  std::optional<RecordedOptions> options;
  // In the order of the document, each name once.
  std::vector<SourceFileRecord> sources;
  // Likewise of the adapter that was merged into them; empty where there was none.
  std::vector<SourceFileRecord> adapter;
  // Likewise of the calibration that encoders weighed errors by.
  std::vector<SourceFileRecord> calibration;
  // What lay in the source's folder and was not carried, as the conversion saw it. Untrusted: escaped before it is
  // printed.
  std::vector<LeftOutFile> left_out;
  // The whole document, for members that only a report prints.
  Json document;

  // "q4convert 0.1.0"
  std::string tool() const { return tool_name + " " + tool_version; }
};

// Parses the provenance of a container file, or the joined one of a model. `path` is named in errors: those of
// ParseProvenanceForm(), and kQ4ProvenanceForm for an option whose value no conversion takes. The text is not trusted.
absl::StatusOr<ProvenanceView> ParseProvenance(std::string_view text, std::string_view path);

// What the shards of a model say together, as one document; `documents` are theirs in order, at least one. The document
// of the first shard with the source files of all, each once, because each shard lists only the files that it was read
// from. A single document is returned as it is. If one of several breaks the form, its text is returned: the whole is
// not known then.
std::string JoinedProvenance(std::span<const std::string_view> documents);
// The joined provenance of the shards of `model`; of one shard that was opened alone its own.
std::string ModelProvenance(const Q4Model& model);
// What the model says, after every rule of section 8: each shard's document by itself, and that all shards agree
// (F8.1). Errors: those of ParseProvenance(), and kQ4ProvenanceShards.
absl::StatusOr<ProvenanceView> ReadProvenance(const Q4Model& model);

// The recorded options on one line, "type nf4, block_size 64", in the order of the document and without those that were
// left empty. Names and values are not escaped for a terminal: the caller does it.
std::string ConversionOptions(const ProvenanceView& view);

}  // namespace q4
