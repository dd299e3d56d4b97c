// What a container says about how it was made (docs/format.md section 8), as far as tools look into it.
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
#include "formats/tensor/tensor.h"

namespace q4 {

struct SourceFileRecord {
  std::string name;
  std::uint64_t size = 0;
  std::string digest_kind;  // "sha256", "xxh3", or "" when none is recorded
  std::string digest;       // lower-case hexadecimal
};

// Members that are absent, or of another type than expected, are left at their defaults: provenance is a statement of
// the writer and decides nothing about how the payload is read.
struct ProvenanceView {
  std::string tool;                 // "q4convert 0.1.0"
  std::string numerics;             // "q4n-1"
  std::optional<DType> keep_dtype;  // of float tensors that stay unquantized; nullopt: their own
  std::vector<SourceFileRecord> sources;
  Json document;  // all of it
};

// Fails if the text is no JSON object. `path` is named in errors.
absl::StatusOr<ProvenanceView> ParseProvenance(std::string_view text, std::string_view path);

// What the shards of a model say together, `documents` in their order: the document of the first with the source files
// of all, each once. One document as it is. Where one of several is no JSON object, that text: the whole is not known
// then.
std::string JoinedProvenance(std::span<const std::string_view> documents);
// That of the shards of `model`, or of the one that was opened alone.
std::string ModelProvenance(const Q4Model& model);

// The recorded options on one line, "type nf4, block_size 64", without those that were left empty. Not escaped.
std::string ConversionOptions(const ProvenanceView& view);

}  // namespace q4
