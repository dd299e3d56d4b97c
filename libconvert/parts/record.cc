// The shard is opened by the reader of containers, on a file that has its ends and not its middle.
#include "libconvert/parts/record.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "formats/base/digest.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/q4/layout.h"
#include "libconvert/base/parallel.h"
#include "libconvert/parts/part_number.h"
#include "libconvert/parts/parts_issues.h"

namespace q4 {
namespace {

constexpr std::string_view kFirstLine = "q4 part record 1\n";
// Beside the index: a line of JSON with some 100 bytes for each source file and 20 for each shard.
constexpr std::uint64_t kLongestRecord = limits::kQ4IndexBytes + (std::uint64_t{64} << 20);
constexpr std::size_t kDigestBytes = 32;

// Where a file is looked at, and how much of it.
constexpr std::uint64_t kPrints = 4, kPrintBytes = 4096;
// Few files are not worth a thread.
unsigned PrintThreads(std::size_t files) { return static_cast<unsigned>(std::clamp<std::size_t>(files / 8, 1, 8)); }

absl::StatusOr<std::string> PrintOf(const RandomAccessFile& file) {
  const std::uint64_t bytes = std::min(file.size(), kPrintBytes);
  Xxh3Stream digest(0);
  std::vector<std::uint8_t> piece(bytes);
  for (std::uint64_t i = 0; i < kPrints; ++i) {
    Q4_RETURN_IF_ERROR(file.ReadAt((file.size() - bytes) / (kPrints - 1) * i, piece));
    digest.Update(piece);
  }
  return fmt::format("{:016x}", digest.Digest());
}

// A container of which only the ends are there. Offsets are those of the container.
class EndsOfShard final : public RandomAccessFile {
 public:
  // `bytes`: header, index and footer, one behind the other.
  EndsOfShard(std::string path, std::vector<std::uint8_t> bytes, std::uint64_t index_offset, std::uint64_t file_bytes)
      : path_(std::move(path)), bytes_(std::move(bytes)), index_offset_(index_offset), file_bytes_(file_bytes) {}

  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    const bool in_header = offset <= kQ4HeaderBytes && out.size() <= kQ4HeaderBytes - offset;
    const bool behind = offset >= index_offset_ && offset <= file_bytes_ && out.size() <= file_bytes_ - offset;
    if (!in_header && !behind) return Fail(kPartRecord, path_, "a read between header and index");
    std::memcpy(out.data(), bytes_.data() + (in_header ? offset : offset - index_offset_ + kQ4HeaderBytes), out.size());
    return absl::OkStatus();
  }
  void Prefetch(std::uint64_t /*offset*/, std::uint64_t /*bytes*/) const override {}
  FileVersion version() const override { return {file_bytes_, {}}; }
  absl::StatusOr<FileVersion> VersionNow() const override { return version(); }
  std::uint64_t size() const override { return file_bytes_; }
  const std::string& path() const override { return path_; }
  FileIdentity identity() const override { return {}; }

 private:
  const std::string path_;
  const std::vector<std::uint8_t> bytes_;
  const std::uint64_t index_offset_, file_bytes_;
};

// One member of the line; false where it is not of that form.
bool Take(const Json& value, std::uint64_t* out) {
  if (!value.is_number_unsigned()) return false;
  *out = value.get<std::uint64_t>();
  return true;
}
bool Take(const Json& value, std::string* out) {
  if (!value.is_string()) return false;
  *out = value.get<std::string>();
  return true;
}
bool Take(const Json& value, SeenFile* out) {
  return value.is_array() && value.size() == 3 && Take(value[0], &out->size) && Take(value[1], &out->time) &&
         Take(value[2], &out->print);
}
bool Take(const Json& value, std::uint32_t* out) {
  std::uint64_t wide = 0;
  if (!Take(value, &wide) || wide > limits::kShards) return false;
  *out = static_cast<std::uint32_t>(wide);
  return true;
}
template <typename T>
bool Take(const Json& value, std::vector<T>* out) {
  if (!value.is_array()) return false;
  for (const Json& entry : value) {
    if (!Take(entry, &out->emplace_back())) return false;
  }
  return true;
}

template <typename T>
bool TakeMember(const Json& object, const char* name, T* out) {
  const Json* const member = FindMember(object, name);
  return member != nullptr && Take(*member, out);
}

}  // namespace

absl::StatusOr<std::vector<SeenFile>> SeenFiles(const Checkpoint& checkpoint) {
  // Side by side: over a network it is the way there and back that takes the time.
  const std::vector<CheckpointFile>& files = checkpoint.files();
  std::vector<SeenFile> seen;
  const absl::Status status = ParallelInOrder(
      files.size(), PrintThreads(files.size()), [&](std::uint64_t i) { return PrintOf(*files[i].file); },
      [&](std::uint64_t i, absl::StatusOr<std::string> print) -> absl::Status {
        Q4_RETURN_IF_ERROR(print.status());
        const FileVersion version = files[i].file->version();
        seen.push_back({version.size, version.tag.substr(0, version.tag.find(' ')), *std::move(print)});
        return absl::OkStatus();
      });
  Q4_RETURN_IF_ERROR(status);
  return seen;
}

absl::StatusOr<std::string> EncodeRecord(const PartRecord& record, const Q4Reader& shard) {
  const Q4Seal& seal = shard.seal();
  Json files = Json::array();
  for (const SeenFile& file : record.files) files.push_back(Json::array({file.size, file.time, file.print}));
  Json json;
  json["file_bytes"] = seal.file_bytes;
  json["files"] = std::move(files);
  json["index_offset"] = seal.index_offset;
  json["parts"] = record.parts;
  json["sources"] = record.sources;
  json["weights"] = record.weights;
  std::string text = std::string(kFirstLine) + json.dump() + "\n";
  const auto copy = [&](std::uint64_t begin, std::uint64_t end) {
    const std::size_t at = text.size();
    text.resize(at + (end - begin));
    return shard.file().ReadAt(begin, {reinterpret_cast<std::uint8_t*>(text.data()) + at, end - begin});
  };
  Q4_RETURN_IF_ERROR(copy(0, kQ4HeaderBytes));
  Q4_RETURN_IF_ERROR(copy(seal.index_offset, seal.file_bytes));
  const Sha256 digest = Sha256Of({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  text.append(reinterpret_cast<const char*>(digest.data()), digest.size());
  return text;
}

absl::StatusOr<PartRecord> ReadRecord(FileSystem& fs, const std::string& path) {
  // What it says becomes a part of the model.
  Q4_RETURN_IF_ERROR(fs.CheckOurs(path, /*shared=*/true));
  Q4_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs, path, kLongestRecord, SymbolicLinks::kNever));
  const auto wrong = [&](std::string_view where) { return Fail(kPartRecord, path, where); };
  const std::span bytes(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  if (!text.starts_with(kFirstLine)) return wrong("first line");
  if (bytes.size() < kFirstLine.size() + kDigestBytes) return wrong("size");
  const auto body = bytes.first(bytes.size() - kDigestBytes);
  const Sha256 digest = Sha256Of(body);
  if (!std::equal(digest.begin(), digest.end(), bytes.end() - kDigestBytes)) return wrong("digest");
  const std::size_t end = text.find('\n', kFirstLine.size());
  if (end == std::string::npos || end + 1 > body.size()) return wrong("second line");
  const absl::StatusOr<Json> json =
      ParseJson(std::string_view(text).substr(kFirstLine.size(), end - kFirstLine.size()), path, /*max_depth=*/4);
  PartRecord record;
  std::uint64_t index_offset = 0, file_bytes = 0;
  if (!json.ok() || !TakeMember(*json, "file_bytes", &file_bytes) || !TakeMember(*json, "files", &record.files) ||
      !TakeMember(*json, "index_offset", &index_offset) || !TakeMember(*json, "parts", &record.parts) ||
      !TakeMember(*json, "sources", &record.sources) || !TakeMember(*json, "weights", &record.weights)) {
    return wrong("second line");
  }
  const auto ends = body.subspan(end + 1);
  if (index_offset < kQ4HeaderBytes || file_bytes < index_offset ||
      ends.size() != kQ4HeaderBytes + (file_bytes - index_offset)) {
    return wrong("size");
  }
  Q4_ASSIGN_OR_RETURN(record.shard,
                      Q4Reader::Open(std::make_unique<EndsOfShard>(
                          path, std::vector<std::uint8_t>(ends.begin(), ends.end()), index_offset, file_bytes)));
  const Q4Index& index = record.shard->index();
  const bool counts = record.weights.size() == index.shard_count && record.parts != 0 && record.parts <= kMostParts;
  const bool places = std::all_of(record.sources.begin(), record.sources.end(),
                                  [&](std::uint32_t file) { return file < record.files.size(); });
  return counts && places ? absl::StatusOr<PartRecord>(std::move(record)) : wrong("second line");
}

}  // namespace q4
