// The name of a part gives the names of all, so nothing is looked for: each is opened or missed by its name. What the
// parts say of themselves must agree with the names: a part that was renamed, or comes from another split, would
// otherwise be read in the place of the right one.
#include "formats/source/split_files.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "fmt/format.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/names/hub_cache.h"
#include "formats/source/checkpoint_issues.h"

namespace q4 {
namespace {

// "model-00001-of-00003.gguf", taken apart. Five digits, as all who split write and read.
struct PartName {
  std::string before, ending;  // "model", ".gguf"
  std::uint64_t number = 0;    // from 1, as it is written
  std::uint64_t count = 0;
};

constexpr std::size_t kDigits = 5;

// REQUIRES: kDigits characters.
bool TakeNumber(std::string_view text, std::uint64_t* number) {
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    *number = 10 * *number + static_cast<std::uint64_t>(c - '0');
  }
  return true;
}

bool ParsePartName(const std::string& name, PartName* part) {
  constexpr std::string_view kOf = "-of-";
  const std::size_t dot = name.rfind('.');
  constexpr std::size_t kTail = 1 + kDigits + kOf.size() + kDigits;  // "-00001-of-00003"
  if (dot == std::string::npos || dot < kTail) return false;
  const std::string_view tail = std::string_view(name).substr(dot - kTail, kTail);
  PartName out;
  if (tail.front() != '-' || tail.substr(1 + kDigits, kOf.size()) != kOf) return false;
  if (!TakeNumber(tail.substr(1, kDigits), &out.number) || !TakeNumber(tail.substr(kTail - kDigits), &out.count)) {
    return false;
  }
  out.before = name.substr(0, dot - kTail);
  out.ending = name.substr(dot);
  *part = std::move(out);
  return true;
}

std::string NameOfPart(const PartName& part, std::uint64_t number) {
  return fmt::format("{}-{:05}-of-{:05}{}", part.before, number, part.count, part.ending);
}

// All that are absent, since a download that broke off lacks more than one.
absl::Status PartsMissing(FileSystem& fs, const std::string& path, const PartName& name) {
  constexpr std::size_t kShown = 3;
  std::string names;
  std::uint64_t missing = 0;
  for (std::uint64_t number = 1; number <= name.count; ++number) {
    const std::string part = NameOfPart(name, number);
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(JoinPath(DirectoryOf(path), part)));
    if (info.exists || ++missing > kShown) continue;
    names += (missing == 1 ? "" : ", ") + part;
  }
  if (missing > kShown) names += fmt::format(" and {} more", missing - kShown);
  return Fail(kShardMissing, path, names,
              fmt::format("{} of {} parts {} not there, so complete the download", missing, name.count,
                          missing == 1 ? "is" : "are"));
}

// Whether a part says of itself what its name and the part that was given say.
absl::Status CheckPart(const RandomAccessFile& file, const std::optional<SourcePart>& part, std::uint64_t number,
                       const SourcePart& given) {
  if (!part) return Fail(kPartMismatch, file.path(), {}, "it says of itself that it is no part");
  if (part->count != given.count || part->number + 1 != number) {
    return Fail(kPartMismatch, file.path(), {},
                GotExpected(fmt::format("part {} of {}", part->number + 1, part->count),
                            fmt::format("{} of {}", number, given.count)));
  }
  if (part->tensors != given.tensors) {
    const auto text = [](const std::optional<std::uint64_t>& count) { return count ? fmt::to_string(*count) : "none"; };
    return Fail(kPartMismatch, file.path(), "number of tensors of all parts",
                GotExpected(text(part->tensors), text(given.tensors) + ", as another part says"));
  }
  return absl::OkStatus();
}

absl::Status CheckUniqueTensors(const CheckpointPayload& payload, const std::string& path) {
  std::vector<const SourceTensor*> by_name;
  by_name.reserve(payload.tensors.size());
  for (const SourceTensor& tensor : payload.tensors) by_name.push_back(&tensor);
  std::sort(by_name.begin(), by_name.end(), [](const SourceTensor* a, const SourceTensor* b) {
    return a->name != b->name ? a->name < b->name : a->place().file < b->place().file;
  });
  const auto twin = std::adjacent_find(by_name.begin(), by_name.end(),
                                       [](const SourceTensor* x, const SourceTensor* y) { return x->name == y->name; });
  if (twin == by_name.end()) return absl::OkStatus();
  return Fail(kDuplicateTensor, path, (*twin)->name,
              "in " + payload.files[(*twin)->place().file].name + " and " + payload.files[twin[1]->place().file].name);
}

}  // namespace

std::vector<std::string> OnePartOfEach(std::vector<std::string> names) {
  std::vector<std::string> kept;
  std::vector<std::pair<std::string, std::uint64_t>> seen;  // few: a directory has few models
  for (std::string& name : names) {
    PartName part;
    if (ParsePartName(name, &part)) {
      std::pair<std::string, std::uint64_t> set(part.before, part.count);
      if (std::find(seen.begin(), seen.end(), set) != seen.end()) continue;
      seen.push_back(std::move(set));
    }
    kept.push_back(std::move(name));
  }
  return kept;
}

absl::StatusOr<CheckpointPayload> OpenParts(FileSystem& fs, std::shared_ptr<RandomAccessFile> given,
                                            SourceHeader header, const SourceFormat& format, SymbolicLinks links) {
  const SourcePart said = *header.part;
  const std::string path = given->path();
  PartName name;
  const bool named = ParsePartName(BaseNameOf(path), &name);
  if (!named || name.count != said.count || name.number != said.number + 1) {
    return Fail(kPartName, path, {},
                GotExpected(BaseNameOf(path), fmt::format("NAME-{:05}-of-{:05}{}, as it says of itself",
                                                          said.number + 1, said.count, format.ending)));
  }
  if (said.count > limits::kShards) return Fail(kTooManyShards, path, {}, fmt::format("at most {}", limits::kShards));
  CheckpointPayload payload;
  payload.format = format.name;
  for (std::uint64_t number = 1; number <= name.count; ++number) {
    const std::string part_name = NameOfPart(name, number), part_path = JoinPath(DirectoryOf(path), part_name);
    std::shared_ptr<RandomAccessFile> file;
    SourceHeader part;
    if (number == name.number) {
      file = std::move(given);
      part = std::exchange(header, SourceHeader());  // only once: one part has this number
    } else {
      Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(part_path));
      if (!info.exists && info.is_symlink) Q4_RETURN_IF_ERROR(MayFollow(fs, part_path, links));
      if (!info.exists) return PartsMissing(fs, path, name);
      Q4_ASSIGN_OR_RETURN(file, fs.OpenForRead(part_path, links));
      Q4_ASSIGN_OR_RETURN(part, format.read_header(*file));
    }
    Q4_RETURN_IF_ERROR(CheckPart(*file, part.part, number, said));
    if (payload.tensors.size() + part.tensors.size() > limits::kTensorsPerCheckpoint) {
      return Fail(kTooManyTensors, path, {}, fmt::format("at most {}", limits::kTensorsPerCheckpoint));
    }
    for (SourceTensor& tensor : part.tensors) {
      for (SourceExtent& extent : tensor.extents) extent.file = static_cast<std::uint32_t>(number - 1);
      payload.tensors.push_back(std::move(tensor));
    }
    if (part.metadata) {
      PlaceCompanion(*file, &*part.metadata);
      payload.metadata = std::move(part.metadata);
    }
    if (!payload.foreign) payload.foreign = std::move(part.foreign);
    payload.notes.insert(payload.notes.end(), part.notes.begin(), part.notes.end());
    payload.remarks.Add(part.remarks);
    payload.files.push_back({part_name, std::move(file)});
  }
  if (said.tensors && *said.tensors != payload.tensors.size()) {
    return Fail(kPartMismatch, path, "number of tensors of all parts",
                GotExpected(fmt::to_string(payload.tensors.size()), fmt::to_string(*said.tensors)));
  }
  Q4_RETURN_IF_ERROR(CheckUniqueTensors(payload, path));
  return payload;
}

void PlaceCompanion(const RandomAccessFile& file, CompanionFile* metadata) {
  metadata->path = file.path();
  metadata->identity = file.identity();
  metadata->version = file.version();
}

}  // namespace q4
