// Records are read whole at the beginning, so that a merge at the same time may remove them meanwhile.
#include "libconvert/parts/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/counted.h"
#include "formats/base/digest.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/publish/atomic_file.h"
#include "formats/q4/layout.h"
#include "formats/q4/shards.h"
#include "libconvert/base/json_document.h"
#include "libconvert/judge/gate_judge.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/model/stats_json.h"
#include "libconvert/output/container_files.h"
#include "libconvert/output/output_issues.h"
#include "libconvert/parts/assign.h"
#include "libconvert/parts/part_files.h"
#include "libconvert/parts/parts_issues.h"

namespace q4 {
namespace {

// "3, 7-9": numbers of shards for people; at most some hundred characters.
std::string NumbersText(const std::vector<std::uint64_t>& numbers) {
  std::string text = ArrayText(numbers);
  constexpr std::size_t kMost = 300;
  if (text.size() > kMost) text = text.substr(0, text.rfind(',', kMost)) + ", ...";
  return text;
}

absl::Status Mixed(const PartRecord& a, const PartRecord& b, std::string_view where, std::string_view what) {
  return Fail(kPartsMixed, b.shard->path(), where,
              fmt::format("{} than in {}; convert one of them again", what, a.shard->path()));
}

// What all documents of a model have in common (F8.1), as text.
std::string SharedText(Json document) {
  document["source"].erase("files");
  return document.dump();
}

// Whether all records are of one conversion: as many shards, one plan, the same program and options, and the same
// source files, wherever two of them saw the same one.
absl::Status CheckOneConversion(const std::vector<PartRecord>& records, std::vector<std::string>* notes) {
  const PartRecord& first = records.front();
  std::map<std::string, std::pair<std::string, const PartRecord*>> digests;  // of source files, by name
  std::string shared;
  std::set<std::string> other_times;
  for (const PartRecord& record : records) {
    const Q4Index& index = record.shard->index();
    if (index.shard_count != first.shard->index().shard_count) {
      return Mixed(first, record, "number of shards", "another one");
    }
    Q4_ASSIGN_OR_RETURN(const ProvenanceView view, ParseProvenance(index.provenance, record.shard->path()));
    const std::string own = SharedText(view.document);
    if (shared.empty()) shared = own;
    if (view.tool() != ParseProvenance(first.shard->index().provenance, {})->tool()) {
      return Mixed(first, record, "tool", "another version");
    }
    if (own != shared) return Mixed(first, record, "plan", "other options, companions or sources");
    for (const SourceFileRecord& file : view.sources) {
      const auto [known, is_new] = digests.try_emplace(file.name, file.digest, &record);
      if (!is_new && known->second.first != file.digest) {
        return Mixed(*known->second.second, record, file.name, "another content of this source file");
      }
    }
    if (record.weights != first.weights || record.files.size() != first.files.size()) {
      return Mixed(first, record, "source files", "others");
    }
    for (std::size_t i = 0; i < record.files.size(); ++i) {
      const SeenFile &a = first.files[i], &b = record.files[i];
      const std::string where = fmt::format("source file number {}", i + 1);
      if (a.size != b.size || a.print != b.print) return Mixed(first, record, where, "another content");
      if (a.time != b.time) other_times.insert(where);
    }
  }
  if (!other_times.empty()) {
    notes->push_back(fmt::format(
        "warning: parts saw {} of other times of modification ({} first): copies, or files that were touched; their "
        "content looks the same, and q4verify --against proves it",
        other_times.size() == 1 ? "a source file" : fmt::format("{} source files", other_times.size()),
        *other_times.begin()));
  }
  return absl::OkStatus();
}

std::vector<std::uint64_t> MissingShards(const std::vector<PartRecord>& records) {
  std::vector<bool> there(records.front().shard->index().shard_count);
  for (const PartRecord& record : records) there[record.shard->index().shard] = true;
  std::vector<std::uint64_t> missing;
  for (std::size_t i = 0; i < there.size(); ++i) {
    if (!there[i]) missing.push_back(i + 1);
  }
  return missing;
}

// N of all records, where they agree.
std::optional<std::uint64_t> PartsOf(const std::vector<PartRecord>& records) {
  const std::uint64_t parts = records.front().parts;
  const bool all = std::all_of(records.begin(), records.end(), [&](const PartRecord& r) { return r.parts == parts; });
  return all ? std::optional(parts) : std::nullopt;
}

std::vector<std::uint64_t> PartsWith(const std::vector<std::uint64_t>& shards, const PartRecord& record,
                                     std::uint64_t count) {
  std::vector<std::uint64_t> parts;
  const std::vector<ShardRange> ranges = AssignShards(record.weights, count);
  for (std::uint64_t part = 0; part < count; ++part) {
    const auto is_of = [&](std::uint64_t shard) {
      return shard - 1 >= ranges[part].first && shard - 1 < ranges[part].second;
    };
    if (std::any_of(shards.begin(), shards.end(), is_of)) parts.push_back(part);
  }
  return parts;
}

// A model of this name: its list, or its one file. "" for none. A shard is no model.
absl::StatusOr<std::string> Complete(FileSystem& fs, const std::string& output) {
  for (const std::string& path : {Q4ShardIndexName(output), output}) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
    if (!info.exists && !info.is_symlink) continue;
    const absl::StatusOr<std::unique_ptr<Q4Reader>> shard = Q4Reader::Open(fs, path);
    if (shard.ok() && (*shard)->index().shard_count > 1) {
      return Fail(kPartsMissing, path, {},
                  fmt::format("it is shard {} of {}, not the output of parts: give the name that -o had",
                              (*shard)->index().shard + 1, (*shard)->index().shard_count));
    }
    return path;
  }
  return std::string();
}

// Whether the file that has the shard's name is the shard; true also where there is none, for it may be elsewhere.
absl::StatusOr<bool> IsThere(FileSystem& fs, const std::string& path, const PartRecord& record) {
  const Q4Seal& seal = record.shard->seal();
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (!info.exists) return false;
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<RandomAccessFile> file, fs.OpenForRead(path));
  std::array<std::uint8_t, kQ4FooterBytes> footer{};
  if (file->size() != seal.file_bytes) {
    return Fail(kShardReplaced, path, "size",
                GotExpected(std::to_string(file->size()), std::to_string(seal.file_bytes)));
  }
  Q4_RETURN_IF_ERROR(file->ReadAt(file->size() - footer.size(), footer));
  Q4_ASSIGN_OR_RETURN(const Q4Footer decoded, Q4Footer::DecodeFrom(footer, record.shard->index().file_id, path));
  if (decoded.root != seal.root) {
    return Fail(kShardReplaced, path, "root", GotExpected(HexOf(decoded.root), HexOf(seal.root)));
  }
  return true;
}

// Makes the model appear: the list, or the name of the one file. It is right if another merge was faster.
absl::Status Commit(FileSystem& fs, const std::string& output, const std::vector<ConvertedShard>& shards) {
  const std::string path = CompletePath(output, shards.size());
  if (shards.size() == 1) {
    const absl::Status renamed = fs.Rename(PartShardPath(output, 0, 1), path, /*replace=*/false);
    if (!renamed.ok()) {
      const absl::StatusOr<std::unique_ptr<Q4Reader>> there = Q4Reader::Open(fs, path);
      if (!there.ok() || (*there)->seal().root != shards.front().seal.root) return renamed;
    }
    return fs.SyncDirectory(DirectoryOf(output));
  }
  const std::string text = ShardListText(shards);
  const absl::Status written = WriteFileUniquely(fs, path, text, /*replace=*/false);
  if (written.ok()) return written;
  // Another merge that came to its end meanwhile has removed what this one was about to rename, too.
  const absl::StatusOr<std::string> there = ReadWholeFile(fs, path, limits::kShardIndexBytes, SymbolicLinks::kNever);
  if (there.ok() && *there == text) return absl::OkStatus();
  if (IssueNumberOf(written) != kOutputExists.number) return written;
  return Fail(kModelComplete, path, {}, "another list of shards is there");
}

// Records first: without one, a shard is what its name says and no more. What other users own stays, and is told.
void CleanUp(FileSystem& fs, const std::string& output, const std::vector<PartRecord>& records,
             std::vector<std::string>* warnings) {
  std::uint64_t kept = 0;
  for (const PartRecord& record : records) kept += !fs.Remove(record.shard->path()).ok();
  const absl::StatusOr<std::vector<LeftoverPart>> leftovers = LeftoverParts(fs, output);
  for (const LeftoverPart& file : leftovers.ok() ? *leftovers : std::vector<LeftoverPart>()) {
    kept += !fs.CheckOurs(file.path, /*shared=*/true).ok() || !fs.Remove(file.path).ok();
  }
  const bool folder = fs.RemoveDirectory(RecordFolder(output)).ok();
  if (kept == 0 && folder && leftovers.ok()) return;
  warnings->push_back(fmt::format("the model is complete, but {} and partial files of its parts could not be removed",
                                  Printable(RecordFolder(output), 4096)));
}

void Judge(const std::vector<Gate>& gates, const std::vector<const Q4Index*>& indexes, const std::string& output,
           ConvertReport* report) {
  if (gates.empty()) return;
  VerifyReport judged = JudgeConversion(gates, indexes, output);
  report->gate_findings = std::move(judged.findings);
  report->gate_finding_count = judged.finding_count;
}

// `path`: the list or the one file.
MergeReport MergedBefore(FileSystem& fs, const std::string& path, const std::vector<Gate>& gates) {
  MergeReport merge;
  merge.was_merged = true;
  ConvertReport& report = merge.report;
  const absl::StatusOr<std::unique_ptr<Q4Model>> model = Q4Model::Open(fs, path);
  if (!model.ok()) {
    report.index_path = path;
    report.warnings.push_back("merged already, but it cannot be opened here: " + MessageOf(model.status()));
    return merge;
  }
  report.notes.push_back("merged already");
  std::vector<const Q4Index*> indexes;
  for (const auto& shard : (*model)->shards()) {
    report.shards.push_back({shard->path(), shard->index(), shard->seal()});
    report.output_bytes += shard->seal().file_bytes;
    indexes.push_back(&shard->index());
  }
  if (report.shards.size() > 1) report.index_path = path;
  // Each source file is listed once in what the shards say together.
  if (const auto view = ReadProvenance(**model); view.ok()) {
    for (const SourceFileRecord& file : view->sources) report.source_bytes += file.size;
  }
  Judge(gates, indexes, path, &report);
  return merge;
}

}  // namespace

absl::StatusOr<PartsStatus> StatusOfParts(FileSystem& fs, const std::string& output,
                                          std::optional<std::uint64_t> parts) {
  Q4_RETURN_IF_ERROR(CheckContainerNames(fs, {}, output, 1, {}));
  PartsStatus status;
  status.output = output;
  status.parts = parts;
  Q4_ASSIGN_OR_RETURN(FoundRecords found, ReadRecords(fs, output));
  Q4_ASSIGN_OR_RETURN(const std::string complete, Complete(fs, output));
  status.complete = !complete.empty();
  Q4_ASSIGN_OR_RETURN(const std::vector<LeftoverPart> leftovers, LeftoverParts(fs, output));
  status.leftovers = leftovers.size();
  for (const LeftoverPart& file : leftovers) status.leftover_bytes += file.bytes;
  if (status.complete) return status;
  // A file that is no longer the shard of its record is to be converted again.
  std::erase_if(found.records, [&](const PartRecord& record) {
    const Q4Index& index = record.shard->index();
    const absl::Status there = IsThere(fs, PartShardPath(output, index.shard, index.shard_count), record).status();
    if (!there.ok()) found.damaged.push_back(MessageOf(there));
    return !there.ok();
  });
  for (const std::string& line : found.damaged) status.notes.push_back("warning: " + line);
  if (found.records.empty()) {
    // Nothing is known of the model but that all of it is missing.
    for (std::uint64_t part = 0; parts && part < *parts; ++part) status.missing_parts.push_back(part);
    return status;
  }
  Q4_RETURN_IF_ERROR(CheckOneConversion(found.records, &status.notes));
  const PartRecord& first = found.records.front();
  status.shard_count = first.shard->index().shard_count;
  status.done = found.records.size();
  status.missing = MissingShards(found.records);
  if (!parts) status.parts = PartsOf(found.records);
  if (status.parts) status.missing_parts = PartsWith(status.missing, first, *status.parts);
  return status;
}

absl::StatusOr<MergeReport> MergeParts(FileSystem& fs, const std::string& output, const std::vector<Gate>& gates) {
  Q4_RETURN_IF_ERROR(CheckContainerNames(fs, {}, output, 1, {}));
  MergeReport merge;
  Q4_ASSIGN_OR_RETURN(FoundRecords found, ReadRecords(fs, output));
  const std::size_t count = found.records.empty() ? 0 : found.records.front().shard->index().shard_count;
  Q4_ASSIGN_OR_RETURN(const std::string complete, Complete(fs, output));
  if (found.records.size() != count || count == 0) {
    // Records that are gone because another merge is done, or is removing them now.
    if (!complete.empty()) {
      MergeReport merged = MergedBefore(fs, complete, gates);
      // An attempt that everybody thought dead may have come to its end since.
      CleanUp(fs, output, found.records, &merged.report.warnings);
      return merged;
    }
    std::string detail = "no part is done";
    if (count != 0) {
      const std::vector<std::uint64_t> missing = MissingShards(found.records);
      detail = fmt::format("{} of {}: {}", missing.size(), Counted(count, "shard"), NumbersText(missing));
      if (const std::optional<std::uint64_t> parts = PartsOf(found.records)) {
        detail += fmt::format("; of {} parts --array={}", *parts,
                              NumbersText(PartsWith(missing, found.records.front(), *parts)));
      }
    }
    for (const std::string& line : found.damaged) detail += "; " + line;
    return Fail(kPartsMissing, output, {}, detail);
  }
  ConvertReport& report = merge.report;
  std::vector<std::string> notes;
  Q4_RETURN_IF_ERROR(CheckOneConversion(found.records, &notes));
  std::vector<const Q4Index*> indexes;
  std::size_t elsewhere = 0;
  for (const PartRecord& record : found.records) {
    ConvertedShard& shard = report.shards.emplace_back();
    shard.path = PartShardPath(output, report.shards.size() - 1, count);
    shard.index = record.shard->index();
    shard.seal = record.shard->seal();
    report.output_bytes += shard.seal.file_bytes;
    indexes.push_back(&record.shard->index());
    Q4_ASSIGN_OR_RETURN(const bool is_there, IsThere(fs, shard.path, record));
    elsewhere += !is_there;
  }
  for (const SeenFile& file : found.records.front().files) report.source_bytes += file.size;
  if (count == 1 && elsewhere != 0 && complete.empty()) {
    return Fail(kPartsMissing, report.shards.front().path, {}, "the shard is not in the folder");
  }
  if (elsewhere != 0) {
    notes.push_back(
        fmt::format("warning: {} of {} shards are not in the folder: the list is right, and is to lie beside "
                    "them",
                    elsewhere, count));
  }
  if (count > 1) report.index_path = Q4ShardIndexName(output);
  for (std::string& note : notes) {
    constexpr std::string_view kWarning = "warning: ";
    note.starts_with(kWarning) ? report.warnings.push_back(note.substr(kWarning.size()))
                               : report.notes.push_back(std::move(note));
  }
  // Two models of one name would be none.
  const std::string other = CompletePath(output, count == 1 ? 2 : 1);
  Q4_ASSIGN_OR_RETURN(const PathInfo other_info, fs.Stat(other));
  if (other_info.exists || other_info.is_symlink) return Fail(kModelComplete, other, {});
  Judge(gates, indexes, output, &report);
  if (!report.gate_findings.empty()) return merge;
  Q4_RETURN_IF_ERROR(Commit(fs, output, report.shards));
  if (count == 1) report.shards.front().path = output;
  CleanUp(fs, output, found.records, &report.warnings);
  return merge;
}

std::string PartsStatusText(const PartsStatus& status) {
  if (status.complete) return fmt::format("complete: {} is a model\n", Printable(status.output, 4096));
  std::string text;
  if (status.shard_count == 0) {
    text = "shards   none is done\n";
  } else {
    text = fmt::format("shards   {} of {} done{}\n", status.done, status.shard_count,
                       status.missing.empty() ? "" : "; missing " + NumbersText(status.missing));
  }
  if (status.leftovers != 0) {
    text += fmt::format("partial  {}, {}: of running parts, or of dead ones; --merge removes them\n",
                        Counted(status.leftovers, "file"), HumanBytes(status.leftover_bytes));
  }
  if (status.shard_count != 0 && status.missing.empty()) {
    text += fmt::format("next     q4convert --merge {}\n", Printable(status.output, 4096));
  } else if (status.parts) {
    text += fmt::format("parts    of {}:\n--array={}\n", *status.parts, ArrayText(status.missing_parts));
  } else {
    text += "parts    give --parts N for those that are missing\n";
  }
  return text;
}

std::string PartsStatusJson(const PartsStatus& status) {
  Json json = NewDocument("q4convert-parts");
  json["output"] = status.output;
  json["complete"] = status.complete;
  json["shards"] = status.shard_count == 0 ? Json(nullptr) : Json(status.shard_count);
  json["done"] = status.done;
  json["missing"] = status.missing;
  json["parts"] = status.parts ? Json(*status.parts) : Json(nullptr);
  json["missing_parts"] = status.missing_parts;
  json["array"] = ArrayText(status.missing_parts);
  json["partial_files"] = status.leftovers;
  json["partial_bytes"] = status.leftover_bytes;
  json["notes"] = status.notes;
  return JsonReportText(json);
}

}  // namespace q4
