// The note is believed as the journal of a conversion is: only if it is of the same run, and every byte that it speaks
// of is checked. It lies in a folder that is locked and ours (atomic_directory.h).
#include "libconvert/components/finished.h"

#include <cstdint>
#include <memory>
#include <utility>

#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/publish/atomic_file.h"
#include "formats/q4/reader.h"
#include "formats/q4/shards.h"
#include "formats/q4/verify.h"
#include "libconvert/base/json_document.h"
#include "libconvert/base/parallel.h"

namespace q4 {
namespace {

std::string NotePath(const std::string& container) { return container + ".finished"; }

std::string HexOfText(const std::string& text) {
  return HexOf({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

// What the note must say for this run: all but the roots.
Json Identity(const Sha256& run_id, const Checkpoint& checkpoint) {
  Json sources = Json::array();
  for (const CheckpointFile& file : checkpoint.files()) {
    const FileVersion version = file.file->version();
    sources.push_back({{"bytes", version.size}, {"version", HexOfText(version.tag)}});
  }
  return {{"run", HexOf(run_id)}, {"sources", std::move(sources)}};
}

// Whether every byte of the shard is under a digest that holds.
bool IsIntact(const Q4Reader& reader, unsigned threads) {
  const auto work = [&](std::uint64_t chunk) { return VerifyQ4Chunk(reader, chunk); };
  const auto commit = [](std::uint64_t, const absl::Status& status) { return status; };
  return ParallelInOrder(reader.index().chunks.size(), threads, work, commit).ok() && reader.VerifyTail().ok();
}

std::vector<std::string> TextsOf(const Json& json, std::string_view key) {
  std::vector<std::string> texts;
  const Json* const list = FindMember(json, key);
  if (list == nullptr || !list->is_array()) return texts;
  for (const Json& text : *list) {
    if (text.is_string()) texts.push_back(text.text());
  }
  return texts;
}

}  // namespace

absl::Status WriteFinishedNote(FileSystem& fs, const std::string& container, const Sha256& run_id,
                               const Checkpoint& checkpoint, const ConvertReport& report) {
  Json json = NewDocument("q4-finished");
  json["of"] = Identity(run_id, checkpoint);
  json["roots"] = Json::array();
  for (const ConvertedShard& shard : report.shards) json["roots"].push_back(HexOf(shard.seal.root));
  json["notes"] = report.notes;
  json["warnings"] = report.warnings;
  return WriteFileAtomically(fs, NotePath(container), json.dump() + "\n", /*replace=*/true);
}

std::optional<ConvertReport> FindFinished(FileSystem& fs, const std::string& container, const Sha256& run_id,
                                          const Checkpoint& checkpoint, const ConversionPlan& plan, unsigned threads) {
  const std::string path = NotePath(container);
  const auto text = ReadWholeFile(fs, path, limits::kConfigJsonBytes, SymbolicLinks::kNever);
  if (!text.ok()) return std::nullopt;
  const absl::StatusOr<Json> json = ParseJson(*text, path, limits::kConfigJsonDepth);
  if (!json.ok()) return std::nullopt;
  const Json* const of = FindMember(*json, "of");
  if (of == nullptr || !(*of == Identity(run_id, checkpoint))) return std::nullopt;
  const std::vector<std::string> roots = TextsOf(*json, "roots");
  if (roots.size() != plan.shards.size()) return std::nullopt;
  ConvertReport report;
  const std::vector<std::string> paths = ShardPaths(container, roots.size());
  for (std::size_t i = 0; i < paths.size(); ++i) {
    const auto reader = Q4Reader::Open(fs, paths[i]);
    if (!reader.ok() || HexOf((*reader)->seal().root) != roots[i] || !IsIntact(**reader, threads)) return std::nullopt;
    report.shards.push_back({paths[i], (*reader)->index(), (*reader)->seal()});
    report.output_bytes += (*reader)->seal().file_bytes;
  }
  if (paths.size() > 1) {
    report.index_path = Q4ShardIndexName(container);
    if (!Q4Model::Open(fs, report.index_path).ok()) return std::nullopt;
  }
  report.source_bytes = plan.source_bytes;
  report.left_out = checkpoint.left_out();
  report.notes = TextsOf(*json, "notes");
  report.warnings = TextsOf(*json, "warnings");
  return report;
}

absl::Status RemoveFinishedNote(FileSystem& fs, const std::string& container) { return fs.Remove(NotePath(container)); }

}  // namespace q4
