// q4-pipeline.json, the seal of a converted pipeline: every file of the folder but itself with its size and digest, the
// components, and the root of each container (docs/pipelines.md, docs/schema/pipeline.schema.json). The pipeline's own
// root is the SHA-256 of this file. Pure but for ReadPipelineSeal().
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/digest.h"
#include "formats/base/file.h"

namespace q4 {

inline constexpr char kPipelineSealName[] = "q4-pipeline.json";

// A file as it was written. `path` is relative to the pipeline, with '/' between components.
struct SealedFile {
  std::string path;
  std::uint64_t bytes = 0;
  std::string sha256;  // lower-case hexadecimal
  bool operator==(const SealedFile&) const = default;
};

// A component with a folder.
struct SealedComponent {
  std::string name, library, class_name;
  std::string container;  // "transformer/model.q4", or its list of shards; "" where the component is carried as it was
  std::string root;       // of the container, as hexadecimal; "" without one
};

struct SealedLeftOut {
  std::string name, reason;
};

struct PipelineSeal {
  std::string tool_version;                 // of the q4 that wrote it
  std::string class_name;                   // of the pipeline; "" where it is not stated
  std::vector<SealedComponent> components;  // bytewise sorted by name
  std::vector<SealedFile> files;            // bytewise sorted by path
  std::vector<SealedLeftOut> left_out;      // of the source; sorted by name
};

// The canonical document: the same seal gives the same bytes.
std::string EncodePipelineSeal(const PipelineSeal& seal);

// Checks all that the document can tell alone: members and types, paths that stay in the folder, order, that each
// container is listed, that these are the bytes that EncodePipelineSeal() writes. `path` is for messages. Errors: those
// of ParseJson(), kPipelineSealForm (exit code 3), kPipelineSealVersion (5).
absl::StatusOr<PipelineSeal> ParsePipelineSeal(std::string_view text, std::string_view path);

// Reads the seal of the folder `directory`, and its text. Errors: also those of ReadWholeFile().
struct ReadSeal {
  PipelineSeal seal;
  Sha256 root{};  // of the pipeline
};
absl::StatusOr<ReadSeal> ReadPipelineSeal(FileSystem& fs, const std::string& directory);

// The folder, if `path` is a converted pipeline: a folder that has the seal, or the seal itself; else "". Errors: I/O.
absl::StatusOr<std::string> SealedPipelineFolder(FileSystem& fs, const std::string& path);

}  // namespace q4
