// RunConversion: check the output, open one partial file per shard, run the pipeline, seal, gate, publish.
#include "libconvert/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "formats/base/atomic_file.h"
#include "formats/q4_reader.h"
#include "formats/q4_shards.h"
#include "libconvert/convert_issues.h"
#include "libconvert/model_stats.h"
#include "libconvert/pipeline.h"
#include "libconvert/thread_pool.h"

namespace q4 {
namespace {

std::vector<std::string> OutputPaths(const ConversionPlan& plan, const std::string& output) {
  if (plan.shards.size() == 1) return {output};
  std::vector<std::string> paths;
  for (std::size_t i = 0; i < plan.shards.size(); ++i) {
    paths.push_back(
        Q4ShardName(output, static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(plan.shards.size())));
  }
  return paths;
}

// One message that names every tensor above the limit.
absl::Status CheckGate(const ConvertReport& report, double max_nmse, const std::string& output) {
  std::vector<std::string> breaches;
  for (const ConvertedShard& shard : report.shards) {
    for (const Q4Tensor& tensor : shard.index.tensors) {
      if (!tensor.has_stats) continue;
      const double nmse = Derive(tensor.stats).nmse;
      if (!(nmse <= max_nmse)) breaches.push_back(fmt::format("tensor '{}' {:.6g}", tensor.name, nmse));
    }
  }
  if (breaches.empty()) return absl::OkStatus();
  std::string list;
  for (std::size_t i = 0; i < std::min<std::size_t>(breaches.size(), 5); ++i) list += (i ? ", " : "") + breaches[i];
  if (breaches.size() > 5) list += fmt::format(" and {} more", breaches.size() - 5);
  return Fail(kGateBroken, output, list, GotExpected(fmt::format("{} tensors above", breaches.size()),
                                                     fmt::format("at most {:.6g}", max_nmse)));
}

}  // namespace

absl::Status CheckOutput(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                         const std::string& output, bool force) {
  if (!output.ends_with(".q4") || BaseNameOf(output).size() <= 3) {
    return Fail(kOutputName, output, {}, GotExpected(BaseNameOf(output), "NAME.q4"));
  }
  const std::string directory = DirectoryOf(output);
  Q4_ASSIGN_OR_RETURN(const PathInfo parent, fs.Stat(directory));
  if (!parent.is_directory) return Fail(kOutputDirectory, output, {}, directory);
  std::vector<std::string> paths = OutputPaths(plan, output);
  if (plan.shards.size() > 1) paths.push_back(Q4ShardIndexName(output));
  for (const std::string& path : paths) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
    if (!info.exists) continue;
    for (const CheckpointFile& input : checkpoint.files()) {
      if (input.file->identity() == info.identity) return Fail(kOutputIsInput, path, {}, input.file->path());
    }
    if (!info.is_regular) return Fail(kOutputNotAFile, path, {});
    if (!force) return Fail(kWouldReplace, path, {});
  }
  return absl::OkStatus();
}

absl::StatusOr<ConvertReport> RunConversion(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                                            const ConvertOptions& options, const RunOptions& run,
                                            const std::string& output) {
  Q4_RETURN_IF_ERROR(CheckOutput(fs, checkpoint, plan, output, run.force));
  const unsigned threads = run.threads != 0 ? run.threads : ThreadPool::DefaultThreads();
  const std::uint64_t least = MinimumPipelineMemory(checkpoint, plan, options, threads, run.engine, run.max_memory);
  if (run.max_memory < least) {
    return Fail(kMemoryTooSmall, checkpoint.path(), "--max-memory",
                GotExpected(fmt::format("{} bytes", run.max_memory), fmt::format("at least {} bytes", least)));
  }
  const std::vector<std::string> paths = OutputPaths(plan, output);
  std::vector<std::unique_ptr<AtomicFile>> files;
  std::vector<std::unique_ptr<Q4Writer>> writers;
  std::vector<Q4Writer*> writer_list;
  for (std::size_t i = 0; i < plan.shards.size(); ++i) {
    Q4_ASSIGN_OR_RETURN(auto file, AtomicFile::Create(fs, paths[i], run.force));
    // A full disk is better known now than after an hour. With compression the size is an upper bound only.
    if (!options.compression.zstd) Q4_RETURN_IF_ERROR(file->file().Reserve(plan.shards[i].file_bytes));
    Q4_ASSIGN_OR_RETURN(auto writer, Q4Writer::Create(&file->file(), plan.shards[i].index));
    writer_list.push_back(writer.get());
    files.push_back(std::move(file));
    writers.push_back(std::move(writer));
  }

  const auto begin = std::chrono::steady_clock::now();
  Q4_ASSIGN_OR_RETURN(PipelineResult result, RunPipeline(fs, checkpoint, plan, options, run, writer_list));

  ConvertReport report;
  report.provenance = ProvenanceJson(checkpoint, options, result.source_digests);
  report.source_bytes = plan.source_bytes;
  report.peak_budget_bytes = result.peak_budget_bytes;
  report.notes = std::move(result.notes);
  for (std::size_t i = 0; i < writers.size(); ++i) {
    ConvertedShard shard;
    shard.path = paths[i];
    Q4_ASSIGN_OR_RETURN(shard.seal, writers[i]->Finish(report.provenance));
    Q4_RETURN_IF_ERROR(files[i]->file().Truncate(shard.seal.file_bytes));
    shard.index = writers[i]->index();
    report.output_bytes += shard.seal.file_bytes;
    report.shards.push_back(std::move(shard));
  }
  if (run.max_nmse) Q4_RETURN_IF_ERROR(CheckGate(report, *run.max_nmse, output));
  const auto written = std::chrono::steady_clock::now();

  for (const std::unique_ptr<AtomicFile>& file : files) Q4_RETURN_IF_ERROR(file->Publish());
  if (paths.size() > 1) {
    // Last: the model exists once its index does.
    report.index_path = Q4ShardIndexName(output);
    Q4ShardList list;
    for (const ConvertedShard& shard : report.shards) {
      for (const Q4Tensor& tensor : shard.index.tensors) {
        list.tensors.emplace_back(tensor.name, static_cast<std::uint32_t>(list.parts.size()));
      }
      list.parts.push_back({BaseNameOf(shard.path), shard.seal.file_bytes, shard.seal.root});
    }
    Q4_RETURN_IF_ERROR(WriteFileAtomically(fs, report.index_path, EncodeQ4ShardList(list), run.force));
  }
  report.convert_seconds = std::chrono::duration<double>(written - begin).count();
  report.publish_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - written).count();
  return report;
}

}  // namespace q4
