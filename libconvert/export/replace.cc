// Two questions, in this order. Does the directory hold entries that no export of this container writes? Every entry is
// looked at by name and kind; nothing is opened. Is one of its files a source of the container? Only files with the
// size of a source are read and digested. Both are asked before anything is written, so a refusal changes nothing.
#include "libconvert/export/replace.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "formats/base/atomic_directory.h"
#include "formats/base/status.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/export/files.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/source/file_digest.h"

namespace q4 {
namespace {

// What an export of a model may leave in its directory.
struct ExportNames {
  std::set<std::string> files;        // relative, '/' separated; all but the weight files
  std::set<std::string> directories;  // that embedded files lie in, and those above them

  // From the container that is exported now. Names are all there is to go by: an export of another model with the
  // same embedded files is taken for one of this model.
  explicit ExportNames(const Q4Model& model) : files{"config.json", kWeightIndexName, AtomicDirectory::kLockName} {
    for (const auto& shard : model.shards()) {
      for (const Q4EmbeddedFile& file : shard->index().files) {
        files.insert(file.name);
        // "a/b/c.json" lies in "a/b", and that in "a".
        for (std::size_t slash = file.name.find('/'); slash != std::string::npos;
             slash = file.name.find('/', slash + 1)) {
          directories.insert(file.name.substr(0, slash));
        }
      }
    }
  }

  // A symbolic link is no export's, wherever it leads.
  bool Has(const std::string& name, const PathInfo& info) const {
    if (info.is_symlink) return false;
    if (info.is_directory) return directories.contains(name);
    return info.is_regular && (files.contains(name) || IsWeightFileName(name));
  }
};

// Adds the regular files below `root`/`inside` to `files`, or fails at the first entry that no export writes. Only
// directories that an export may have made are entered.
absl::Status ListFiles(FileSystem& fs, const ExportNames& names, const std::string& root, const std::string& inside,
                       std::vector<std::string>* files) {
  Q4_ASSIGN_OR_RETURN(const auto entries, fs.ListDirectory(inside.empty() ? root : JoinPath(root, inside)));
  for (const std::string& entry : entries) {
    const std::string name = inside.empty() ? entry : inside + "/" + entry;
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(JoinPath(root, name)));
    // The first one ends the search: the error names it, and nothing has been changed yet.
    if (!names.Has(name, info)) {
      return Fail(kExportNotReplaceable, root, name,
                  "an export of this container writes no such entry; remove it, or choose another output");
    }
    if (info.is_directory) {
      Q4_RETURN_IF_ERROR(ListFiles(fs, names, root, name, files));
    } else {
      files->push_back(name);
    }
  }
  return absl::OkStatus();
}

// Size, kind of digest and digest of a source, and the name that the provenance gives it. In this order, so that a file
// that has the size of many is digested once.
using Sources = std::map<std::tuple<std::uint64_t, std::string, std::string>, std::string>;

// Of all shards: each lists what it was made from.
absl::StatusOr<Sources> SourcesOf(const Q4Model& model) {
  Sources sources;
  for (const auto& shard : model.shards()) {
    // A provenance that cannot be parsed is an error: without it nobody knows whether a file is the original.
    Q4_ASSIGN_OR_RETURN(const ProvenanceView view, ParseProvenance(shard->index().provenance, shard->path()));
    for (const SourceFileRecord& source : view.sources) {
      sources.try_emplace({source.size, source.digest_kind, source.digest}, source.name);
    }
  }
  return sources;
}

// Compares sizes first: a digest costs a read of the whole file, and a source is as large as a model.
absl::Status CheckIsNone(FileSystem& fs, const Sources& sources, const std::string& path, CancelFlag* cancel) {
  Q4_ASSIGN_OR_RETURN(const auto file, fs.OpenForRead(path, SymbolicLinks::kNever));
  std::map<std::string, std::string> digests;  // by kind
  for (auto source = sources.lower_bound({file->size(), "", ""}); source != sources.end(); ++source) {
    const auto& [size, kind, digest] = source->first;
    if (size != file->size()) break;
    if (!kind.empty() && !digests.contains(kind)) {
      Q4_ASSIGN_OR_RETURN(digests[kind], FileDigest(*file, kind, cancel, kExportInterrupted));
    }
    // Without a recorded digest the same size must do. Refusing a stranger is a nuisance; deleting the original cannot
    // be undone.
    if (kind.empty() || digests[kind] == digest) {
      return Fail(kExportIsSource, path, {}, "'" + source->second + "' of the provenance");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckReplaceableDirectory(FileSystem& fs, const Q4Model& model, const std::string& path,
                                       CancelFlag* cancel) {
  std::vector<std::string> files;
  Q4_RETURN_IF_ERROR(ListFiles(fs, ExportNames(model), path, "", &files));
  // config.json alone is no model: people keep such files in directories of their own.
  const bool has_weights = std::any_of(files.begin(), files.end(), [](const std::string& name) {
    return name == "model.safetensors" || name == kWeightIndexName;
  });
  if (!files.empty() && !has_weights) {
    return Fail(kExportNotReplaceable, path, {}, "got a directory without model.safetensors");
  }
  Q4_ASSIGN_OR_RETURN(const Sources sources, SourcesOf(model));
  for (const std::string& name : files) {
    Q4_RETURN_IF_ERROR(CheckIsNone(fs, sources, JoinPath(path, name), cancel));
  }
  return absl::OkStatus();
}

absl::Status CheckIsNoSource(FileSystem& fs, const Q4Model& model, const std::string& path, CancelFlag* cancel) {
  Q4_ASSIGN_OR_RETURN(const Sources sources, SourcesOf(model));
  return CheckIsNone(fs, sources, path, cancel);
}

}  // namespace q4
