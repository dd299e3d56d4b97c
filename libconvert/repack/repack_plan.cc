// The container's tensors in the order in which they lie in it, which is the source's, cut into shards by the rule of a
// conversion. So a container that is repacked as it was packed at first has its payload again, byte for byte.
#include "libconvert/repack/repack_plan.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "fmt/format.h"
#include "formats/base/base_issues.h"
#include "formats/base/checked_math.h"
#include "formats/base/digest.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/names/portable_names.h"
#include "formats/q4/file_names.h"
#include "formats/q4/parts.h"
#include "formats/q4/writer.h"
#include "libconvert/base/name_pattern.h"
#include "libconvert/base/version.h"
#include "libconvert/plan/plan_issues.h"
#include "libconvert/plan/shard_cut.h"
#include "libconvert/repack/repack_issues.h"
#include "libconvert/repack/repack_provenance.h"

namespace q4 {
namespace {

// An embedded file of the result.
struct PlannedFile {
  RepackedShard::File from;
  std::uint64_t bytes = 0;
};

// In payload order; those without elements, which lie nowhere, behind the others of their shard.
std::vector<Q4Model::Location> InPayloadOrder(const Q4Model& model) {
  std::vector<Q4Model::Location> order;
  for (const Q4Model::Location& at : model.tensors()) order.push_back(at);
  const auto place = [&model](const Q4Model::Location& at) {
    const Q4Tensor& tensor = model.tensor(at);
    return std::tuple(at.shard, tensor.elems == 0, tensor.first_chunk);
  };
  // Stable: by name before.
  std::stable_sort(order.begin(), order.end(), [&](const auto& a, const auto& b) { return place(a) < place(b); });
  return order;
}

absl::Status CheckFile(const RandomAccessFile& file, const std::string& name) {
  if (file.size() > limits::kEmbeddedFileBytes) {
    return Fail(
        kFileTooLarge, file.path(), {},
        GotExpected(fmt::format("{} bytes", file.size()), fmt::format("at most {}", limits::kEmbeddedFileBytes)));
  }
  if (name != "config.json") return absl::OkStatus();
  // No loader would go on with another, as in a conversion.
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  if (text.size() > limits::kConfigJsonBytes) {
    return Fail(kFileTooLarge, file.path(), {},
                GotExpected(fmt::format("{} bytes", text.size()), fmt::format("at most {}", limits::kConfigJsonBytes)));
  }
  Q4_RETURN_IF_ERROR(file.ReadAt(0, {reinterpret_cast<std::uint8_t*>(text.data()), text.size()}));
  Q4_ASSIGN_OR_RETURN(const Json config, ParseModelJson(text, file.path()));
  return config.is_object() ? absl::OkStatus() : Fail(kJsonSyntax, file.path(), {}, "expected an object");
}

// The embedded files of the result by name. Opens those that are added.
absl::StatusOr<std::map<std::string, PlannedFile>> PlanFiles(FileSystem& fs, const Q4Model& model,
                                                             const RepackOptions& options, RepackPlan* plan,
                                                             RepackProvenance* provenance) {
  const std::vector<Q4EmbeddedFile>& own = model.shards().front()->index().files;
  std::map<std::string, PlannedFile> files;
  for (std::size_t i = 0; i < own.size(); ++i) files[own[i].name] = {{false, i}, own[i].raw_bytes};
  for (const std::string& name : options.dropped) {
    if (files.erase(name) == 0) {
      return Fail(kRepackNoSuchFile, model.path(), "--drop-file " + name, "q4inspect --files lists them");
    }
    provenance->Dropped(name);
    plan->notes.push_back({false, fmt::format("file '{}' is left out", Printable(name))});
  }
  std::set<std::string_view> given;
  for (const AddedFile& file : options.added) {
    const std::string where = "--add-file " + file.name;
    if (const std::string_view problem = Q4FileNameProblem(file.name); !problem.empty()) {
      return Fail(kRepackFileName, file.path, where, problem);
    }
    if (!given.insert(file.name).second) return Fail(kRepackFileName, file.path, where, "it is given twice");
    if (std::find(options.dropped.begin(), options.dropped.end(), file.name) != options.dropped.end()) {
      return Fail(kRepackFileName, file.path, where, "--drop-file names it too; adding it is enough to replace it");
    }
    Q4_ASSIGN_OR_RETURN(std::unique_ptr<RandomAccessFile> opened, fs.OpenForRead(file.path));
    Q4_RETURN_IF_ERROR(CheckFile(*opened, file.name));
    const PlannedFile planned{{true, plan->added.size()}, opened->size()};
    const bool replaces = files.contains(file.name);
    files[file.name] = planned;
    if (replaces) {
      provenance->Replaced(file.name);
    } else {
      provenance->Added(file.name);
    }
    plan->notes.push_back({false, fmt::format("file '{}' is {} {}", Printable(file.name),
                                              replaces ? "replaced by" : "added from", Printable(file.path, 4096))});
    plan->added.push_back(std::move(opened));
  }
  // All together, for a file may not be a folder too.
  PortableNames together;
  std::uint64_t bytes = 0;
  for (const auto& [name, file] : files) {
    if (const std::string problem = together.Add(name); !problem.empty()) {
      return Fail(kRepackFileName, model.path(), name, problem);
    }
    bytes += file.bytes;
  }
  if (files.size() > limits::kEmbeddedFiles || bytes > limits::kEmbeddedTotalBytes) {
    return Fail(kRepackFiles, model.path(), "--add-file",
                GotExpected(fmt::format("{} files of {} bytes", files.size(), bytes),
                            fmt::format("at most {} of {}", limits::kEmbeddedFiles, limits::kEmbeddedTotalBytes)));
  }
  return files;
}

// What tells this result from any other: the container that it is made of, by its root in the provenance, and how.
Sha256 RepackedFileId(const RepackedShard& shard, const Q4Compression& compression, std::uint64_t shard_bytes) {
  Sha256Stream digest;
  const auto add = [&digest](const Json& part) {
    const std::string text = part.dump() + "\n";
    digest.Update({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  };
  add(Json::array({"q4 repack id", kNumericsVersion, shard.index.shard, shard.index.shard_count,
                   compression.zstd ? compression.level : 0, shard_bytes, shard.provenance}));
  for (const RepackedShard::Tensor& tensor : shard.tensors) add(shard.index.tensors[tensor.tensor].name);
  for (const Q4EmbeddedFile& file : shard.index.files) add(Json::array({file.name, file.raw_bytes}));
  return digest.Finish();
}

void CountChunk(std::uint64_t bytes, RepackPlan* plan) {
  plan->payload_bytes += bytes;
  plan->largest_chunk = std::max(plan->largest_chunk, std::min(bytes, kQ4ChunkBytes));
}

}  // namespace

absl::StatusOr<RepackPlan> PlanRepack(FileSystem& fs, const Q4Model& model, const RepackOptions& options) {
  Q4_ASSIGN_OR_RETURN(RepackProvenance provenance, RepackProvenance::Of(model));
  RepackPlan plan;
  plan.compression = options.compression.value_or(provenance.compression().value_or(Q4Compression{}));
  const std::uint64_t shard_bytes = options.shard_bytes.value_or(provenance.shard_bytes().value_or(0));
  const std::optional<Q4Compression> before = provenance.compression();
  plan.keeps_packing = !options.compression ||
                       (before && before->zstd && plan.compression.zstd && before->level == plan.compression.level);
  provenance.SetPacking(plan.compression, shard_bytes);
  Q4_ASSIGN_OR_RETURN(const auto files, PlanFiles(fs, model, options, &plan, &provenance));

  std::optional<NamePattern> pattern;
  if (!options.tensor_pattern.empty()) {
    Q4_ASSIGN_OR_RETURN(pattern, NamePattern::Parse(options.tensor_pattern, "--tensor"));
  }
  ShardCut cut(shard_bytes);
  // By which rule the container's own shards were cut is not recorded then: they stay.
  const bool keeps_shards = !options.shard_bytes && !provenance.shard_bytes();
  std::uint64_t left_out = 0;
  plan.shards.emplace_back();
  for (const Q4Model::Location& at : InPayloadOrder(model)) {
    Q4Tensor tensor = model.tensor(at);
    if (pattern && !pattern->Matches(tensor.name)) {
      ++left_out;
      continue;
    }
    const RepackedShard& last = plan.shards.back();
    const bool begins =
        keeps_shards ? !last.tensors.empty() && last.tensors.back().from.shard != at.shard : cut.Begins(tensor);
    if (begins) plan.shards.emplace_back();
    for (const Q4PartEntry& part : tensor.parts()) CountChunk(part.raw_bytes, &plan);
    tensor.first_chunk = 0;
    RepackedShard& shard = plan.shards.back();
    shard.tensors.push_back({at, 0});
    shard.index.tensors.push_back(std::move(tensor));
  }
  if (pattern && left_out == model.tensors().size()) {
    return Fail(kRepackNothing, model.path(), "--tensor", pattern->text());
  }
  if (plan.shards.size() > limits::kShards) {
    return Fail(kTooManyParts, model.path(), "--shard-size",
                GotExpected(std::to_string(plan.shards.size()), "at most " + std::to_string(limits::kShards)));
  }
  const std::uint64_t missing_parts = model.shards().front()->index().shard_count - model.shards().size();
  if (left_out != 0) {
    plan.notes.push_back({false, fmt::format("{} of {} tensors are left out", left_out, model.tensors().size())});
  }
  if (missing_parts != 0) {
    plan.notes.push_back({false, fmt::format("one part of {} is repacked, as a model of its own",
                                             model.shards().front()->index().shard_count)});
  }
  provenance.LeftOut(left_out, missing_parts);
  std::map<std::string_view, const Q4Tensor*> taken;
  for (const RepackedShard& shard : plan.shards) {
    for (const Q4Tensor& tensor : shard.index.tensors) taken.emplace(tensor.name, &tensor);
  }
  provenance.KeepTensors(taken, left_out != 0 || missing_parts != 0);

  for (const auto& [name, file] : files) {
    CountChunk(file.bytes, &plan);
    Q4EmbeddedFile embedded;
    embedded.name = name;
    embedded.raw_bytes = file.bytes;
    plan.shards.front().index.files.push_back(std::move(embedded));
    plan.shards.front().files.push_back(file.from);
  }
  // Which shards of the container each shard is made of. Source files that only left-out shards list stay with the
  // first, so that together they list all.
  std::vector<std::set<std::size_t>> from(plan.shards.size());
  std::set<std::size_t> unused;
  for (std::size_t i = 0; i < model.shards().size(); ++i) unused.insert(i);
  for (std::size_t i = 0; i < plan.shards.size(); ++i) {
    for (const RepackedShard::Tensor& tensor : plan.shards[i].tensors) {
      from[i].insert(tensor.from.shard);
      unused.erase(tensor.from.shard);
    }
  }
  from.front().insert(unused.begin(), unused.end());
  for (std::size_t i = 0; i < plan.shards.size(); ++i) {
    RepackedShard& shard = plan.shards[i];
    const std::vector<std::size_t> places = SortByName(&shard.index.tensors);
    for (std::size_t k = 0; k < places.size(); ++k) shard.tensors[k].tensor = places[k];
    shard.index.shard = static_cast<std::uint32_t>(i);
    shard.index.shard_count = static_cast<std::uint32_t>(plan.shards.size());
    shard.provenance = provenance.Document(from[i]);
    shard.index.file_id = RepackedFileId(shard, plan.compression, shard_bytes);
    Q4_ASSIGN_OR_RETURN(const Q4LayoutSize size, ComputeQ4Layout(shard.index, places, shard.provenance.size()));
    shard.file_bytes = size.file_bytes;
    plan.output_bytes += size.file_bytes;
  }
  for (const auto& shard : model.shards()) plan.source_bytes += shard->seal().file_bytes;
  return plan;
}

}  // namespace q4
