// Looked at twice, before the work and before publishing: what lies there may be another folder by then.
#include "libconvert/components/place.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/digest.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/source/checkpoint.h"
#include "libconvert/base/parallel.h"
#include "libconvert/components/components_issues.h"
#include "libconvert/export/record.h"
#include "libconvert/source/file_digest.h"

namespace q4 {
namespace {

std::vector<SealedFile> FilesOfSeal(FileSystem& fs, const std::string& directory) {
  absl::StatusOr<ReadSeal> read = ReadPipelineSeal(fs, directory);
  return read.ok() ? std::move(read->seal.files) : std::vector<SealedFile>();
}

std::vector<SealedFile> FilesOfExport(FileSystem& fs, const std::string& directory) {
  std::vector<SealedFile> files;
  const auto recorded = ReadExportRecord(fs, directory);
  if (!recorded.ok()) return files;
  for (const ExportRecordFile& file : *recorded) files.push_back({file.name, file.bytes, file.sha256});
  return files;
}

absl::Status AddEntries(FileSystem& fs, const std::string& directory, const std::string& inside, int depth,
                        std::vector<std::string>* files) {
  Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(inside.empty() ? directory : JoinPath(directory, inside)));
  for (const std::string& entry : names) {
    if (inside.empty() && AtomicDirectory::IsOwnName(entry)) continue;
    const std::string name = inside.empty() ? entry : inside + "/" + entry;
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(JoinPath(directory, name)));
    if (!info.is_directory || info.is_symlink) {
      files->push_back(name);
      continue;
    }
    const std::size_t before = files->size();
    if (depth < limits::kFilePathDepth) Q4_RETURN_IF_ERROR(AddEntries(fs, directory, name, depth + 1, files));
    if (files->size() == before) files->push_back(name + "/");
  }
  return absl::OkStatus();
}

// Every entry must be a file that a record has. What is unfinished is that of a run that was killed.
absl::Status CheckEntries(FileSystem& fs, const std::string& path, const PlaceRecord& record, const InputFiles& inputs,
                          bool force, CancelFlag* cancel, DirectoryUse* use) {
  std::multimap<std::string, SealedFile> own, pending;
  for (SealedFile& file : record.read(fs, path)) own.emplace(file.path, std::move(file));
  Q4_ASSIGN_OR_RETURN(const auto leftovers, AtomicDirectory::Leftovers(fs, path));
  for (const std::string& leftover : leftovers) {
    for (SealedFile& file : record.read(fs, leftover)) pending.emplace(file.path, std::move(file));
  }
  if (!own.empty() && !force) return Fail(kPipelineExists, path, {});
  if (own.empty() && pending.empty()) {
    // Whatever it is, it is not walked through.
    Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(path));
    const auto foreign = std::find_if_not(names.begin(), names.end(), AtomicDirectory::IsOwnName);
    return foreign == names.end() ? absl::OkStatus() : Fail(kPipelineNotOurs, path, *foreign);
  }
  Q4_RETURN_IF_ERROR(inputs.CheckTrees(fs, {path}, kPipelineIsInput));
  Q4_ASSIGN_OR_RETURN(const auto entries, ListFiles(fs, path));
  for (const std::string& name : entries) {
    if (name == record.name && !own.empty()) {
      use->ours.push_back(name);
      continue;
    }
    if (name.ends_with('/')) {
      // Made by a run that was killed before it moved a file there, or all files of it were taken away.
      const auto lies_in = [&name](const auto& files) {
        const auto at = files.lower_bound(name);
        return at != files.end() && at->first.starts_with(name);
      };
      if (lies_in(own) || lies_in(pending)) continue;
      return Fail(kPipelineNotOurs, path, name);
    }
    const auto recorded = [&name](const auto& files) { return files.contains(name); };
    if (!recorded(own) && !recorded(pending)) return Fail(kPipelineNotOurs, path, name);
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(JoinPath(path, name)));
    if (info.is_symlink || !info.is_regular) return Fail(kPipelineNotOurs, path, name);
    Q4_ASSIGN_OR_RETURN(const auto found, DigestFiles(fs, path, {name}, 1, cancel));
    const auto agrees = [&](const auto& files) {
      const auto [first, last] = files.equal_range(name);
      return std::any_of(first, last, [&](const auto& file) { return file.second == found.front(); });
    };
    if (agrees(own)) {
      use->ours.push_back(name);
    } else if (agrees(pending)) {
      use->ours.push_back(name);
      use->kept_record = record.name;
    } else {
      return Fail(kPipelineNotOurs, path, name, "changed since q4 wrote it");
    }
  }
  return absl::OkStatus();
}

}  // namespace

PlaceRecord SealRecord() { return {kPipelineSealName, FilesOfSeal}; }
PlaceRecord ExportRecord() { return {kExportRecordName, FilesOfExport}; }

absl::StatusOr<std::vector<std::string>> ListFiles(FileSystem& fs, const std::string& directory) {
  std::vector<std::string> files;
  Q4_RETURN_IF_ERROR(AddEntries(fs, directory, "", 1, &files));
  std::sort(files.begin(), files.end());
  return files;
}

absl::StatusOr<DirectoryUse> CheckPipelinePlace(FileSystem& fs, const std::string& path, const PlaceRecord& record,
                                                const InputFiles& inputs, bool force, CancelFlag* cancel) {
  if (path.ends_with(".q4") || IsCheckpointName(path)) return Fail(kPipelineOutputName, path, {});
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> cleared, AtomicDirectory::Cleared(fs, path));
  Q4_RETURN_IF_ERROR(inputs.CheckTrees(fs, cleared, kPipelineIsInput));
  Q4_RETURN_IF_ERROR(AtomicDirectory::Restore(fs, path));
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  DirectoryUse use;
  if (!info.exists && !info.is_symlink) return use;
  if (info.is_symlink || !info.is_directory) return Fail(kPipelineNotOurs, path, {}, "got no folder");
  use.may_exist = true;
  Q4_RETURN_IF_ERROR(CheckEntries(fs, path, record, inputs, force, cancel, &use));
  return use;
}

absl::StatusOr<bool> LiesBelow(FileSystem& fs, const std::string& path, const std::string& directory) {
  // The root of a sane file system is its own parent and ends the loop.
  constexpr int kMostSteps = 256;
  Q4_ASSIGN_OR_RETURN(const PathInfo above, fs.Stat(directory));
  std::string at = DirectoryOf(path);
  FileIdentity last;
  for (int step = 0; step < kMostSteps; ++step) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(at));
    if (!info.exists || info.identity == last) return false;
    if (info.identity == above.identity) return true;
    last = info.identity;
    at += "/..";
  }
  return false;
}

absl::StatusOr<SealedFile> CopyCarried(FileSystem& fs, const CompanionFile& file, const std::string& name,
                                       AtomicDirectory* directory, CancelFlag* cancel) {
  Q4_ASSIGN_OR_RETURN(const auto in, OpenCarried(fs, file));
  if (in->size() != file.size) return Fail(kFileChanged, file.path, {});
  Q4_ASSIGN_OR_RETURN(const auto out, directory->CreateFile(name));
  Q4_RETURN_IF_ERROR(out->Reserve(in->size()));
  Sha256Stream digest;
  std::vector<std::uint8_t> piece(std::size_t{1} << 20);
  for (std::uint64_t at = 0; at < in->size(); at += piece.size()) {
    if (cancel != nullptr && cancel->load()) return Fail(kPipelineInterrupted, file.path, {});
    piece.resize(std::min<std::uint64_t>(piece.size(), in->size() - at));
    Q4_RETURN_IF_ERROR(in->ReadAt(at, piece));
    digest.Update(piece);
    Q4_RETURN_IF_ERROR(out->WriteAt(at, piece));
  }
  Q4_RETURN_IF_ERROR(in->CheckUnchanged());
  Q4_RETURN_IF_ERROR(out->Sync());
  Q4_RETURN_IF_ERROR(out->Close());
  return SealedFile{name, in->size(), HexOf(digest.Finish())};
}

absl::StatusOr<std::vector<SealedFile>> DigestFiles(FileSystem& fs, const std::string& directory,
                                                    const std::vector<std::string>& names, unsigned threads,
                                                    CancelFlag* cancel) {
  std::vector<SealedFile> files;
  const auto work = [&](std::uint64_t i) -> absl::StatusOr<SealedFile> {
    Q4_ASSIGN_OR_RETURN(const auto file, fs.OpenForRead(JoinPath(directory, names[i]), SymbolicLinks::kRefuse));
    Q4_ASSIGN_OR_RETURN(std::string digest, FileDigest(*file, "sha256", cancel, kPipelineInterrupted));
    Q4_RETURN_IF_ERROR(file->CheckUnchanged());
    return SealedFile{names[i], file->size(), std::move(digest)};
  };
  const auto commit = [&](std::uint64_t, const absl::StatusOr<SealedFile>& file) -> absl::Status {
    Q4_RETURN_IF_ERROR(file.status());
    files.push_back(*file);
    return absl::OkStatus();
  };
  Q4_RETURN_IF_ERROR(ParallelInOrder(names.size(), threads, work, commit));
  return files;
}

}  // namespace q4
