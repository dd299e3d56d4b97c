// What an export says about itself, so that a later --force knows what q4export wrote and nobody has changed since: the
// file q4_export.json of a directory (docs/schema/export_record.schema.json), or a mark in the header of a single
// .safetensors file. Loaders ignore both. Internal to libconvert/export/.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "formats/q4/reader.h"
#include "libconvert/base/progress.h"

namespace q4 {

inline constexpr char kExportRecordName[] = "q4_export.json";

// A file as it was written. `name` is relative to the directory, with '/' between components.
struct ExportRecordFile {
  std::string name;
  std::uint64_t bytes = 0;
  std::string sha256;  // lower-case hexadecimal
};

// The encoders of the quantized tensors, by name.
std::set<std::string_view> EncodersOf(const Q4Model& model);
// The text of q4_export.json, with a final newline: the exporter `to`, the root of the container, its encoders (of a
// pipeline nullopt: its components have records of their own), and `files`, all but itself, in any order. The same
// export gives the same bytes.
std::string ExportRecordText(std::string_view to, const Sha256& root,
                             const std::optional<std::set<std::string_view>>& encoders,
                             std::vector<ExportRecordFile> files);
// The files of the record in `directory`; none where there is no such regular file, or where it is no record: whatever
// it says then, nothing agrees with it. Errors: I/O (exit code 2).
absl::StatusOr<std::vector<ExportRecordFile>> ReadExportRecord(FileSystem& fs, const std::string& directory);

// Digests of whole files as FileDigest() makes them, each made once as long as the file does not change: an output is
// looked at before the work and again before it is replaced. Thread-safe.
class DigestCache {
 public:
  // Errors as FileDigest(); kExportInterrupted when `cancel` is set.
  absl::StatusOr<std::string> Of(const RandomAccessFile& file, const std::string& kind, CancelFlag* cancel);

 private:
  // size and tag of the file's version, kind of digest
  using Key = std::tuple<std::uint64_t, std::string, std::string>;
  std::mutex mutex_;
  std::map<Key, std::string> digests_;
};

// The mark of a single file: a member "q4_export" of __metadata__, beside "format", whose value is the SHA-256 of the
// whole file with these 64 digits as zeros. So a file that was changed, by header or by data, is no longer marked.

// The member with zeros, for PlanSafetensors().
std::string FileMarkMember();
// Where the 64 digits lie in a file that was planned with it.
std::uint64_t FileMarkOffset();
// The value for such a file. Errors: those of reading; kExportInterrupted.
absl::StatusOr<std::string> FileMarkOf(const RandomAccessFile& file, CancelFlag* cancel);
// Whether the file bears its own mark. Errors as above.
absl::StatusOr<bool> IsMarked(const RandomAccessFile& file, CancelFlag* cancel);

}  // namespace q4
