// Order of things: refuse a bad output, open the container, choose tensors, let the exporter plan targets and small
// files, lay out weight files, write pieces on all threads, add the small files, publish.
#include "libconvert/export/export.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <set>
#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "formats/base/base_issues.h"
#include "formats/base/counted.h"
#include "formats/base/digest.h"
#include "formats/base/limits.h"
#include "formats/base/text.h"
#include "formats/publish/atomic_directory.h"
#include "formats/publish/atomic_file.h"
#include "formats/publish/input_files.h"
#include "formats/q4/reader.h"
#include "libconvert/base/machine.h"
#include "libconvert/base/parallel.h"
#include "libconvert/base/run_issues.h"
#include "libconvert/export/card_file.h"
#include "libconvert/export/embedded.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/export/exporter.h"
#include "libconvert/export/files.h"
#include "libconvert/export/pieces.h"
#include "libconvert/export/planning.h"
#include "libconvert/export/record.h"
#include "libconvert/export/replace.h"
#include "libconvert/model/model_configs.h"
#include "libconvert/model/open_model.h"
#include "libconvert/source/file_digest.h"

namespace q4 {
namespace {

// The embedded file that exporters rewrite; all other embedded files are copied.
constexpr char kConfigName[] = "config.json";
// An output of this suffix is a single file; any other is a directory. A path is not asked what lies there, so that the
// same command line means the same before and after a run.
constexpr std::string_view kSingleFileSuffix = ".safetensors";

// What can be said from the command line alone. It comes before the container is opened, so that a wrong flag is
// reported at once, however large the model is.
absl::Status CheckOptions(const Exporter& exporter, const ExportOptions& options, bool single_file) {
  Q4_RETURN_IF_ERROR(exporter.Check(options, single_file));
  if (single_file && options.shard_bytes != 0) {
    return Fail(kExportFlag, {}, "--shard-size", "the output must be a directory, not a .safetensors file");
  }
  if (single_file && options.into) {
    return Fail(kExportFlag, {}, "--into", "the output must be a directory, not a .safetensors file");
  }
  if (single_file && options.card == ModelCardUse::kAlways) {
    return Fail(kExportFlag, {}, "--card", "the output must be a directory, not a .safetensors file");
  }
  return absl::OkStatus();
}

// Whether `directory` is `path`'s directory or one above it. ".." is followed on disk, so links on the way do not
// matter.
absl::StatusOr<bool> LiesUnder(FileSystem& fs, const std::string& path, const FileIdentity& directory) {
  // Only for a file system that answers with a new identity at each step; the root of a sane one is its own parent and
  // ends the loop.
  constexpr int kMaxDepth = 256;
  std::string above = DirectoryOf(path);
  FileIdentity last;
  for (int depth = 0; depth < kMaxDepth; ++depth) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(above));
    if (info.identity == directory) return true;
    if (!info.exists || info.identity == last) return false;
    last = info.identity;
    above += "/..";
  }
  return false;
}

// What the export reads.
InputFiles InputsOf(const Q4Model& model) {
  InputFiles inputs;
  for (const auto& shard : model.shards()) inputs.Add(shard->path(), shard->file().identity());
  return inputs;
}

// Refuses an output that must not be overwritten. The container's own files are looked for first: --force allows to
// replace an export, never the model that is being read. Files are compared by identity (device and inode), since one
// file may have several paths. Returns what is there and may be replaced; may_exist is false if there is nothing.
absl::StatusOr<DirectoryUse> CheckOutput(FileSystem& fs, const Q4Model& model, const std::string& output,
                                         bool single_file, const ReplaceOptions& options) {
  const InputFiles inputs = InputsOf(model);
  if (single_file) {
    Q4_RETURN_IF_ERROR(inputs.CheckNames(fs, AtomicFile::Names(output), kExportIsInput));
  } else {
    Q4_ASSIGN_OR_RETURN(const std::vector<std::string> cleared, AtomicDirectory::Cleared(fs, output));
    Q4_RETURN_IF_ERROR(inputs.CheckTrees(fs, cleared, kExportIsInput));
    // Where a run died while an old directory was aside, that one is back first.
    Q4_RETURN_IF_ERROR(AtomicDirectory::Restore(fs, output));
  }
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(output));
  if (!info.exists && !info.is_symlink) return DirectoryUse();
  for (const auto& shard : model.shards()) {
    if (shard->file().identity() == info.identity) return Fail(kExportIsInput, output, {});
    // With --into the container is one of the files that stay.
    if (!info.is_directory || options.into) continue;
    Q4_ASSIGN_OR_RETURN(const bool holds_input, LiesUnder(fs, shard->path(), info.identity));
    if (holds_input) return Fail(kExportIsInput, output, {});
  }
  // A rename would replace the link and leave what it leads to, which is hardly what --force was meant to do.
  if (info.is_symlink) return Fail(kExportNotReplaceable, output, {}, "got a symbolic link");
  if (!single_file) {
    if (info.is_directory) {
      Q4_ASSIGN_OR_RETURN(DirectoryUse use, CheckDirectory(fs, model, output, options));
      std::vector<std::string> replaced;
      for (const std::string& name : use.ours) replaced.push_back(JoinPath(output, name));
      Q4_RETURN_IF_ERROR(inputs.CheckNames(fs, replaced, kExportIsInput));
      return use;
    }
    return Fail(kExportNotReplaceable, output, {}, "got no directory");
  }
  if (!info.is_regular) return Fail(kExportNotReplaceable, output, {}, "got no regular file");
  Q4_RETURN_IF_ERROR(CheckFile(fs, model, output, options));
  return DirectoryUse{.may_exist = true, .ours = {}, .keep_others = false};
}

// What the plan of an export holds of each tensor beside its name: source, targets, pieces, places and header.
constexpr std::uint64_t kTensorBytes = 896;

// How many threads keep their pieces within the memory bound.
absl::StatusOr<unsigned> ThreadsWithin(const ExportOptions& options, std::uint64_t index_bytes) {
  // The cache is shared by all threads and holds four decoded chunks. A thread holds what one piece needs and its
  // result. Results are written before the thread takes its next piece, so none of them wait.
  const std::uint64_t shared = 4 * kQ4ChunkBytes + index_bytes;
  constexpr std::uint64_t kPerThread = kPieceScratchBytes + kPieceResultBytes;
  RunLimits limits = LimitsOfRun(options.threads, options.max_memory);
  if (!RaiseMemoryTo(shared + kPerThread, &limits)) {
    const std::string detail =
        GotExpected(fmt::format("{} bytes", limits.max_memory), fmt::format("at least {} bytes", shared + kPerThread));
    if (!limits.memory_by_default) return Fail(kExportMemory, {}, "--max-memory", detail);
    return Fail(kLimitOfMachine, {}, "--max-memory", detail + "; the default is " + limits.memory_reason);
  }
  const std::uint64_t most = (limits.max_memory - shared) / kPerThread;
  return static_cast<unsigned>(std::min<std::uint64_t>(limits.threads, most));
}

// Makes and writes all pieces on several threads. Bytes are written as soon as they are made, in any order; only counts
// and errors pass through commit(), in the order of the plan, so that progress never goes back and a damaged container
// gives the same error with any number of threads.
absl::Status WritePieces(const ExportPlan& plan, const ExportOptions& options, unsigned threads, WeightWriter* writer,
                         ExportReport* report) {
  struct Outcome {
    absl::Status status;
    std::uint64_t bytes = 0, overflowed = 0;
  };
  const KernelTable& kernels = options.kernels != nullptr ? *options.kernels : BestCpuKernels();
  ChunkCache cache;
  Progress progress;
  progress.total_bytes = report->tensor_bytes;
  progress.total_tensors = plan.sources.size();

  const auto work = [&](std::uint64_t i) -> Outcome {
    if (options.cancel != nullptr && options.cancel->load()) return {Fail(kExportInterrupted, {}, {}), 0, 0};
    // Decoding gives the bits of numerics Q6 only with the default rounding and with denormals.
    const ScopedFloatEnvironment environment;
    const ExportPiece& piece = plan.pieces[i];
    const absl::StatusOr<PieceBytes> made = MakePiece(plan, piece, kernels, &cache);
    if (!made.ok()) return {made.status(), 0, 0};
    return {writer->Write(piece.target, piece.offset, made->bytes), made->bytes.size(), made->overflowed};
  };
  const auto commit = [&](std::uint64_t i, const Outcome& outcome) -> absl::Status {
    Q4_RETURN_IF_ERROR(outcome.status);
    report->overflowed += outcome.overflowed;
    progress.done_bytes += outcome.bytes;
    // Pieces come source by source, so all sources before this one are complete.
    progress.done_tensors = plan.pieces[i].source;
    progress.tensor = plan.sources[plan.pieces[i].source].tensor->name;
    if (options.progress) options.progress(progress);
    return absl::OkStatus();
  };
  Q4_RETURN_IF_ERROR(ParallelInOrder(plan.pieces.size(), threads, work, commit));
  progress.done_tensors = progress.total_tensors;
  if (options.progress) options.progress(progress);
  return absl::OkStatus();
}

absl::Status WriteWeights(const ExportPlan& plan, const ExportOptions& options, unsigned threads,
                          const WeightLayout& layout, const std::vector<WritableFile*>& files, ExportReport* report) {
  WeightWriter writer(&layout, files);
  Q4_RETURN_IF_ERROR(writer.Begin());
  return WritePieces(plan, options, threads, &writer, report);
}

// What an output's file system cannot do, for people.
constexpr char kNoLocks[] =
    "the file system of the output has no locks: what a killed run leaves there, NAME.*.partial, is not cleared by the "
    "next one";
constexpr char kFileByFile[] =
    "the output cannot be published by one rename, so its files were renamed one by one, config.json last; a run that "
    "is killed meanwhile is completed by the same command";

constexpr char kOthersDirectory[] = "the output directory belongs to another user, who may change what is in it";

// One .safetensors file. There is no place for small and embedded files, so those are left out.
absl::Status ExportToFile(FileSystem& fs, const Q4Model& model, const ExportPlan& plan, const ExportOptions& options,
                          unsigned threads, const WeightLayout& layout, const ReplaceOptions& replacing, bool replace,
                          ExportReport* report) {
  Q4_ASSIGN_OR_RETURN(const auto output, AtomicFile::Create(fs, report->output, replace));
  Q4_RETURN_IF_ERROR(output->TryPublishing());
  if (!output->locked()) report->warnings.push_back(kNoLocks);
  Q4_RETURN_IF_ERROR(WriteWeights(plan, options, threads, layout, {&output->file()}, report));
  report->files.push_back({BaseNameOf(report->output), layout.files.front().bytes});
  {
    // Read back, for the pieces were written in any order.
    Q4_ASSIGN_OR_RETURN(const auto written, fs.OpenForRead(output->partial_path(), SymbolicLinks::kNever));
    Q4_ASSIGN_OR_RETURN(const std::string mark, FileMarkOf(*written, options.cancel));
    Q4_RETURN_IF_ERROR(
        output->file().WriteAt(FileMarkOffset(), {reinterpret_cast<const std::uint8_t*>(mark.data()), mark.size()}));
  }
  // Again, for what lies there by now may be another file. One that has appeared is refused by the rename.
  if (replace) Q4_RETURN_IF_ERROR(CheckOutput(fs, model, report->output, /*single_file=*/true, replacing).status());
  return output->Publish();
}

// Files of these names make the others a model, or a part of one: they are published last.
bool IsPublishedLast(const std::string& path) {
  const std::string name = BaseNameOf(path);
  return name.ends_with(".safetensors.index.json") || name == kConfigName || name == "modules.json" ||
         name == "model_index.json";
}

// Those of the new output and of the old one, in the order in which they are published: those of folders before those
// of the model itself, an index before the configuration, without which most loaders see no model, and the record at
// the very end.
std::vector<std::string> PublishedLast(const std::vector<ExportedFile>& files, const std::vector<std::string>& old) {
  std::set<std::string> names(old.begin(), old.end());
  for (const ExportedFile& file : files) names.insert(file.name);
  std::erase_if(names, [](const std::string& name) { return !IsPublishedLast(name); });
  std::vector<std::string> last(names.rbegin(), names.rend());
  std::stable_partition(last.begin(), last.end(),
                        [](const std::string& name) { return name.find('/') != std::string::npos; });
  last.emplace_back(kExportRecordName);
  return last;
}

// Writes q4_export.json for all files so far, `small` of which were written here and are known; the others are read
// back, as their pieces were written in any order.
absl::Status WriteRecord(const Q4Model& model, const ExportOptions& options, std::vector<ExportRecordFile> small,
                         AtomicDirectory* directory, ExportReport* report) {
  std::vector<ExportedFile> weights;
  for (const ExportedFile& file : report->files) {
    const bool known =
        std::any_of(small.begin(), small.end(), [&](const auto& other) { return other.name == file.name; });
    if (!known) weights.push_back(file);
  }
  const auto work = [&](std::uint64_t i) -> absl::StatusOr<std::string> {
    Q4_ASSIGN_OR_RETURN(const auto file, directory->OpenFile(weights[i].name));
    return FileDigest(*file, "sha256", options.cancel, kExportInterrupted);
  };
  const auto commit = [&](std::uint64_t i, const absl::StatusOr<std::string>& digest) -> absl::Status {
    Q4_RETURN_IF_ERROR(digest.status());
    small.push_back({weights[i].name, weights[i].bytes, *digest});
    return absl::OkStatus();
  };
  Q4_RETURN_IF_ERROR(ParallelInOrder(weights.size(), ThreadsOrDefault(options.threads), work, commit));
  const std::string text = ExportRecordText(report->to, model.root(), EncodersOf(model), std::move(small));
  report->files.push_back({kExportRecordName, text.size()});
  return directory->WriteFile(kExportRecordName, text);
}

std::string TextDigest(const std::string& text) {
  return HexOf(Sha256Of({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}));
}

// The name that an embedded file is copied under; "" for an older card, which is not.
const std::string& NameOf(const Q4EmbeddedFile& file, const CardFile& card) {
  return file.name == card.replaced ? card.copied_as : file.name;
}

// Copies the embedded files whose names are not taken.
absl::Status CopyEmbeddedFiles(const Q4Model& model, const CardFile& card, std::set<std::string> taken,
                               AtomicDirectory* directory, std::vector<ExportRecordFile>* written,
                               ExportReport* report) {
  for (const auto& shard : model.shards()) {
    for (const Q4EmbeddedFile& file : shard->index().files) {
      const std::string& name = NameOf(file, card);
      if (name.empty()) continue;
      // The exporter's config.json stands for it.
      if (BaseNameOf(file.name) == kConfigName && taken.contains(file.name)) continue;
      // Overwriting either of the two would lose something without a word. The reader has checked that names do not
      // leave the directory.
      if (!taken.insert(name).second) return Fail(kExportNameTaken, model.path(), file.name);
      if (MayRedirect(file.name)) {
        Q4_ASSIGN_OR_RETURN(std::string content, shard->ReadFile(file, limits::kConfigJsonBytes));
        Q4_RETURN_IF_ERROR(InFile(DropRedirectsOf(file.name, &content), model.path()));
        Q4_RETURN_IF_ERROR(directory->WriteFile(file.name, content));
        report->files.push_back({file.name, content.size()});
        written->push_back({file.name, content.size(), TextDigest(content)});
        continue;
      }
      Q4_ASSIGN_OR_RETURN(const auto out, directory->CreateFile(name));
      Sha256Stream digest;
      Q4_RETURN_IF_ERROR(shard->ReadFileChunks(file, [&](std::uint64_t at, std::span<const std::uint8_t> bytes) {
        digest.Update(bytes);
        return out->WriteAt(at, bytes);
      }));
      Q4_RETURN_IF_ERROR(out->Sync());
      Q4_RETURN_IF_ERROR(out->Close());
      report->files.push_back({name, file.raw_bytes});
      written->push_back({name, file.raw_bytes, HexOf(digest.Finish())});
    }
  }
  return absl::OkStatus();
}

// All that will be written.
std::set<std::string> NamesOf(const Q4Model& model, const CardFile& card, const WeightLayout& layout,
                              const std::vector<SmallFile>& small_files) {
  std::set<std::string> names{kExportRecordName};
  for (const SmallFile& file : small_files) names.insert(file.name);
  for (const WeightFile& file : layout.files) names.insert(file.name);
  for (const auto& shard : model.shards()) {
    for (const Q4EmbeddedFile& file : shard->index().files) names.insert(NameOf(file, card));
  }
  names.erase("");
  return names;
}

// The small files come first and the weights last: a name that is taken or a full disk is noticed before the long work.
absl::Status ExportToDirectory(FileSystem& fs, const Q4Model& model, const ModelConfigs& configs,
                               const ExportPlan& plan, const ExportOptions& options, unsigned threads,
                               const WeightLayout& layout, std::vector<SmallFile> small_files, const CardFile& card,
                               const ReplaceOptions& replacing, const DirectoryUse& found, ExportReport* report) {
  for (const std::string& folder : layout.indexed_folders) {
    std::uint64_t parameters = 0;
    for (const ExportSource& source : plan.sources) {
      if (ModuleFolderOf(configs.folders, source.tensor->name) == folder) parameters += source.tensor->elems;
    }
    small_files.push_back({folder.empty() ? layout.index_name : folder + "/" + kWeightIndexName,
                           WeightIndexText(layout, plan.targets, folder, parameters,
                                           !plan.files.empty() && folder.empty() ? plan.bnb.index : std::nullopt)});
  }
  if (card.card) small_files.push_back(*card.card);
  const std::set<std::string> names = NamesOf(model, card, layout, small_files);
  Q4_RETURN_IF_ERROR(InFile(CheckNamesBeside(names), model.path()));
  Q4_RETURN_IF_ERROR(CheckPlaces(fs, report->output, found, names));
  Q4_ASSIGN_OR_RETURN(const auto directory, AtomicDirectory::Create(fs, report->output, found));
  if (!directory->locked()) report->warnings.push_back(kNoLocks);
  // Names that embedded files may not have.
  std::set<std::string> taken{kExportRecordName};
  std::vector<ExportRecordFile> written;
  for (const SmallFile& file : small_files) {
    taken.insert(file.name);
    Q4_RETURN_IF_ERROR(directory->WriteFile(file.name, file.content));
    report->files.push_back({file.name, file.content.size()});
    written.push_back({file.name, file.content.size(), TextDigest(file.content)});
  }

  // All weight files are open at once, since pieces of different files may be written at the same time.
  std::vector<std::unique_ptr<WritableFile>> files;
  std::vector<WritableFile*> open_files;
  for (const WeightFile& file : layout.files) {
    taken.insert(file.name);
    Q4_ASSIGN_OR_RETURN(files.emplace_back(), directory->CreateFile(file.name));
    open_files.push_back(files.back().get());
    report->files.push_back({file.name, file.bytes});
  }
  Q4_RETURN_IF_ERROR(CopyEmbeddedFiles(model, card, std::move(taken), directory.get(), &written, report));
  Q4_RETURN_IF_ERROR(WriteWeights(plan, options, threads, layout, open_files, report));
  // AtomicDirectory syncs directories only; a rename must not become durable before the data.
  for (const auto& file : files) {
    Q4_RETURN_IF_ERROR(file->Sync());
    Q4_RETURN_IF_ERROR(file->Close());
  }
  Q4_RETURN_IF_ERROR(WriteRecord(model, options, std::move(written), directory.get(), report));
  // Again, for exporting takes long, and the directory may be another one or hold more by now. One that has appeared is
  // refused by the rename.
  DirectoryUse use = found;
  if (found.may_exist) {
    Q4_ASSIGN_OR_RETURN(use, CheckOutput(fs, model, report->output, /*single_file=*/false, replacing));
  }
  Q4_RETURN_IF_ERROR(directory->Publish(use, PublishedLast(report->files, use.ours)));
  if (!directory->whole() && !found.keep_others) report->warnings.push_back(kFileByFile);
  if (found.may_exist && IssueNumberOf(fs.CheckOurs(report->output, /*shared=*/true)) == kForeignOwner.number) {
    report->warnings.push_back(kOthersDirectory);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ExportReport> ExportModel(FileSystem& fs, const std::string& input, const std::string& output,
                                         const ExportOptions& options) {
  ExportReport report;
  report.input = input;
  report.output = output;
  report.to = options.to;
  // The partial directory lies beside the output, not in it.
  while (report.output.size() > 1 && report.output.back() == '/') report.output.pop_back();
  const bool single_file = report.output.ends_with(kSingleFileSuffix);
  const ExporterRow* const row = FindExporter(options.to);
  if (row == nullptr) return Fail(kExportUnknown, {}, options.to);
  const Exporter& exporter = *row->exporter;
  Q4_RETURN_IF_ERROR(CheckOptions(exporter, options, single_file));

  Q4_ASSIGN_OR_RETURN(const auto model, OpenContainer(fs, input, options.root));
  Q4_RETURN_IF_ERROR(CheckAllShards(*model));
  // Before anything else is kept of each tensor.
  Q4_ASSIGN_OR_RETURN(const unsigned threads, ThreadsWithin(options, IndexMemory(*model, kTensorBytes)));
  DigestCache digests;
  const ReplaceOptions replacing{options.force, options.into, ThreadsOrDefault(options.threads), options.cancel,
                                 &digests};
  Q4_ASSIGN_OR_RETURN(const DirectoryUse found, CheckOutput(fs, *model, report.output, single_file, replacing));

  // Nothing has been written so far, and nothing is until the plan, the small files and the layout are complete: an
  // export that must be refused is refused before the long work, and a failing one removes what it made.
  Q4_ASSIGN_OR_RETURN(PlannedExport planned, PlanExport(*model, *row, options, &report));
  const ExportPlan& plan = planned.plan;
  const ModelConfigs& configs = planned.configs;
  // One file has no folders: there tensors keep their whole names.
  std::vector<std::string> folders;
  if (!single_file) folders = configs.folders;
  Q4_ASSIGN_OR_RETURN(WeightLayout layout, LayOutWeights(plan.targets, folders, options.shard_bytes,
                                                         single_file ? FileMarkMember() : "", plan.files));
  if (plan.is_component) NameAsComponent(&layout);
  report.tensor_bytes = layout.tensor_bytes;

  if (single_file) {
    if (!configs.folders.empty()) {
      report.warnings.push_back(
          fmt::format("tensors of module folders are named by them ('{}/...') in a single file, which no loader takes "
                      "apart; export to a directory for sentence-transformers",
                      Printable(configs.folders.front())));
    }
    Q4_RETURN_IF_ERROR(ExportToFile(fs, *model, plan, options, threads, layout, replacing, found.may_exist, &report));
  } else {
    Q4_ASSIGN_OR_RETURN(const CardFile card, PlanCard(*model, configs, *row, options, report));
    Q4_RETURN_IF_ERROR(ExportToDirectory(fs, *model, configs, plan, options, threads, layout,
                                         std::move(planned.small_files), card, replacing, found, &report));
  }
  // Known only now that every element was decoded, unlike the exporter's warnings.
  if (report.overflowed != 0) {
    report.warnings.push_back(Counted(report.overflowed, "element is", "elements are") +
                              " infinite in the exported dtype");
  }
  std::sort(report.files.begin(), report.files.end(),
            [](const ExportedFile& a, const ExportedFile& b) { return a.name < b.name; });
  return report;
}

}  // namespace q4
