#include "formats/net/net_file_system.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "fmt/format.h"
#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/net/http.h"
#include "formats/net/net_issues.h"
#include "formats/net/net_source.h"
#include "formats/net/remote_file.h"
#include "formats/net/transfer.h"
#include "formats/net/url.h"

namespace q4 {
namespace {

// Of a pipeline, whose components lie in folders that only a listing tells.
constexpr std::string_view kPipelineIndex = "model_index.json";
constexpr unsigned kProbesAtOnce = 8;

std::string WithoutSlashes(std::string path) {
  const std::size_t least = path.find("://") + 3;
  while (path.size() > least && path.ends_with('/')) path.pop_back();
  return path;
}

}  // namespace

class NetFileSystem::Network {
 public:
  Network(const NetSettings& settings, std::unique_ptr<Http> http)
      : settings_(settings),
        http_(std::move(http)),
        transfer_(*http_, settings_),
        cache_(settings.memory / 4),
        pool_(settings.memory - settings.memory / 4) {}

  absl::StatusOr<std::string> Adopt(const std::string& given) {
    std::string path = given;
    const std::size_t colon = path.find("://");
    for (std::size_t i = 0; i < colon; ++i) path[i] = static_cast<char>(path[i] | 32);
    if (!path.starts_with("http")) {
      Q4_RETURN_IF_ERROR(SourceOf(path).status());
      if (!path.starts_with("hf")) return WithoutSlashes(path);
      Q4_ASSIGN_OR_RETURN(const HubPath hub, ParseHubPath(path));
      return hub.root() + (hub.inside.empty() ? "" : "/" + hub.inside);
    }
    Q4_ASSIGN_OR_RETURN(const Url url, ParseUrl(path));
    Q4_RETURN_IF_ERROR(CheckMayRead(url, settings_.allow_http, {}));
    if (const HubPath page = HubPathOfPage(url, settings_.hub_endpoint); !page.repository.empty()) {
      return page.root() + (page.inside.empty() ? "" : "/" + page.inside);
    }
    Q4_ASSIGN_OR_RETURN(const std::string name, DecodePath(url.path));
    const std::lock_guard lock(mutex_);
    // One server may be given twice, by q4inspect --diff: who gives credentials last gives them for both.
    sources_[url.origin()] = OpenWeb(url.origin(), {url.query, url.userinfo});
    return WithoutSlashes(url.origin() + name);
  }

  absl::StatusOr<PathInfo> Stat(const std::string& given) {
    const std::string path = WithoutSlashes(given);
    Q4_ASSIGN_OR_RETURN(NetSource* const source, SourceOf(path));
    Q4_ASSIGN_OR_RETURN(const NetEntry entry, source->Find(path));
    PathInfo info;
    info.identity = IdentityOfUrl(path);
    if (entry.kind == NetEntry::Kind::kNothing) return info;
    if (entry.kind == NetEntry::Kind::kFolder) {
      info.exists = info.is_directory = true;
      return info;
    }
    FileVersion version{entry.listed.size, entry.listed.tag};
    if (!entry.listed.known) {
      Q4_ASSIGN_OR_RETURN(const auto names, source->List(DirectoryOf(path)));
      if (std::binary_search(names.names.begin(), names.names.end(), BaseNameOf(path))) {
        Q4_ASSIGN_OR_RETURN(const auto found, ListDirectory(DirectoryOf(path)));
        if (!std::binary_search(found.begin(), found.end(), BaseNameOf(path))) return info;
        if (BaseNameOf(path) == kPipelineIndex) return Fail(kCannotListUrl, path, {});
      }
      Q4_ASSIGN_OR_RETURN(const auto object, Object(path, entry));
      if (object == nullptr) return info;
      version = object->version();
    }
    info.exists = info.is_regular = true;
    info.version = version;
    info.size = version.size;
    return info;
  }

  absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& given) {
    const std::string path = WithoutSlashes(given);
    Q4_ASSIGN_OR_RETURN(NetSource* const source, SourceOf(path));
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = probed_.find(path); found != probed_.end()) return found->second;
    }
    Q4_ASSIGN_OR_RETURN(NetSource::Names names, source->List(path));
    if (names.known) return std::move(names.names);
    return Probe(path, *source, names.names);
  }

  absl::StatusOr<std::unique_ptr<RandomAccessFile>> Open(const std::string& given) {
    const std::string path = WithoutSlashes(given);
    Q4_ASSIGN_OR_RETURN(NetSource* const source, SourceOf(path));
    Q4_ASSIGN_OR_RETURN(const NetEntry entry, source->Find(path));
    if (entry.kind == NetEntry::Kind::kFolder) return Fail(kNotARegularFile, path, {}, "got a folder");
    std::shared_ptr<const RemoteObject> object;
    if (entry.kind == NetEntry::Kind::kFile) {
      Q4_ASSIGN_OR_RETURN(object, Object(path, entry));
    }
    if (object == nullptr) return Fail(kCannotOpen, path, {}, "there is no such file on the server");
    return OpenRemoteFile(std::move(object), pool_, cache_);
  }

  std::vector<std::string> Notes() {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> notes;
    for (const auto& [root, source] : sources_) {
      for (std::string& note : source->Notes()) notes.push_back(std::move(note));
    }
    for (const auto& [folder, names] : probed_) {
      if (names.empty()) continue;
      notes.push_back(
          fmt::format("{} cannot be listed: of the names that files of models have, {} were found; a file of another "
                      "name is missed",
                      Printable(folder), names.size()));
    }
    for (const auto& [folder, denials] : denials_) {
      notes.push_back(
          fmt::format("{}: the bucket denies {} of these names, as it does of what is not there; if one of "
                      "them is there, it is missed: s3:// or gs:// with a key that may list tells",
                      Printable(folder), denials));
    }
    // Without a mark of the server nothing tells two states of one size apart.
    const RemoteObject* unmarked = nullptr;
    std::size_t others = 0;
    for (const auto& [path, object] : objects_) {
      if (object == nullptr || !object->MayChangeUnnoticed()) continue;
      if (unmarked == nullptr) {
        unmarked = object.get();
      } else {
        ++others;
      }
    }
    if (unmarked != nullptr) {
      notes.push_back(
          fmt::format("{}{}: the server gives no ETag and no time of modification: a change while it is "
                      "read goes unnoticed",
                      Printable(unmarked->name()), others == 0 ? "" : fmt::format(" and {} more", others)));
    }
    return notes;
  }

  std::uint64_t memory() const { return settings_.memory; }

 private:
  // The name of the source that a path belongs to.
  absl::StatusOr<std::string> RootOf(const std::string& path) {
    if (path.starts_with("hf://")) {
      Q4_ASSIGN_OR_RETURN(const HubPath hub, ParseHubPath(path));
      return hub.root();
    }
    if (path.starts_with("http")) {
      const std::size_t slash = path.find('/', path.find("://") + 3);
      const std::string origin = path.substr(0, slash);
      Q4_ASSIGN_OR_RETURN(const Url url, ParseUrl(origin));
      Q4_RETURN_IF_ERROR(CheckMayRead(url, settings_.allow_http, {}));
      return origin;
    }
    // s3:// and gs://, of two characters each.
    return path.substr(0, path.find('/', 5));
  }

  absl::StatusOr<NetSource*> SourceOf(const std::string& path) {
    Q4_ASSIGN_OR_RETURN(const std::string root, RootOf(path));
    const std::lock_guard lock(mutex_);
    std::unique_ptr<NetSource>& source = sources_[root];
    if (source == nullptr && root.starts_with("hf://")) {
      Q4_ASSIGN_OR_RETURN(source, OpenHub(transfer_, root));
    } else if (source == nullptr && !root.starts_with("http")) {
      Q4_ASSIGN_OR_RETURN(const BucketAccess access, AccessOfBucket(settings_, root));
      source = OpenBucket(transfer_, root, access);
    } else if (source == nullptr) {
      source = OpenWeb(root, {});
    }
    return source.get();
  }

  // The file at `path`, opened once; nullptr if there is none.
  absl::StatusOr<std::shared_ptr<const RemoteObject>> Object(const std::string& path, const NetEntry& entry) {
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = objects_.find(path); found != objects_.end()) return found->second;
    }
    auto opened = std::make_shared<RemoteObject>(transfer_, entry.target, entry.listed);
    Q4_ASSIGN_OR_RETURN(const bool exists, opened->Open());
    std::shared_ptr<const RemoteObject> object;
    if (exists) {
      object = opened;
      cache_.Add(object, object->head()->size());
    }
    const std::lock_guard lock(mutex_);
    return objects_.emplace(path, std::move(object)).first->second;
  }

  // Which of `names` are there. A bucket says of an absent object that it is denied: one that is found tells that
  // others are absent, as far as anybody can know, and a note says so.
  absl::StatusOr<std::vector<std::string>> Probe(const std::string& folder, NetSource& source,
                                                 const std::vector<std::string>& names) {
    std::vector<absl::StatusOr<bool>> there(names.size(), false);
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
      for (std::size_t i = next.fetch_add(1); i < names.size(); i = next.fetch_add(1)) {
        const std::string path = JoinPath(folder, names[i]);
        const absl::StatusOr<NetEntry> entry = source.Find(path);
        const auto object = entry.ok() ? Object(path, *entry) : entry.status();
        there[i] = object.ok() ? absl::StatusOr<bool>(*object != nullptr) : object.status();
      }
    };
    std::vector<std::thread> threads;
    for (unsigned i = 1; i < kProbesAtOnce; ++i) {
      try {
        threads.emplace_back(work);
      } catch (const std::system_error&) {
        break;
      }
    }
    work();
    for (std::thread& thread : threads) thread.join();
    std::vector<std::string> found;
    absl::Status denied;
    std::size_t denials = 0;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (!there[i].ok()) {
        if (IssueNumberOf(there[i].status()) != kDeniedOrAbsent.number) return there[i].status();
        if (denied.ok()) denied = there[i].status();
        ++denials;
      } else if (*there[i]) {
        found.push_back(names[i]);
      }
    }
    if (found.empty()) Q4_RETURN_IF_ERROR(denied);
    const std::lock_guard lock(mutex_);
    if (denials > 0) denials_[folder] = denials;
    return probed_.emplace(folder, std::move(found)).first->second;
  }

  const NetSettings& settings_;
  const std::unique_ptr<Http> http_;
  const NetTransfer transfer_;
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<NetSource>> sources_;
  std::map<std::string, std::shared_ptr<const RemoteObject>> objects_;  // nullptr: there is none
  std::map<std::string, std::vector<std::string>> probed_;              // folders
  std::map<std::string, std::size_t> denials_;                          // in folders, by buckets
  HeadCache cache_;
  FetchPool pool_;
};

NetFileSystem::NetFileSystem(FileSystem& below, std::uint64_t memory, const std::atomic<bool>* cancel)
    : below_(below), by_environment_(true) {
  settings_.memory = memory;
  settings_.cancel = cancel;
}

NetFileSystem::NetFileSystem(FileSystem& below, NetSettings settings)
    : below_(below), by_environment_(false), settings_(std::move(settings)) {}
NetFileSystem::~NetFileSystem() = default;

absl::StatusOr<NetFileSystem::Network*> NetFileSystem::Net() {
  const std::lock_guard lock(mutex_);
  if (network_ == nullptr) {
    if (by_environment_) {
      Q4_ASSIGN_OR_RETURN(NetSettings found, NetSettingsFromEnvironment());
      found.memory = settings_.memory;
      found.cancel = settings_.cancel;
      settings_ = std::move(found);
    }
    Q4_ASSIGN_OR_RETURN(std::unique_ptr<Http> http, Http::Load(settings_));
    network_ = std::make_unique<Network>(settings_, std::move(http));
  }
  return network_.get();
}

absl::StatusOr<std::string> NetFileSystem::Adopt(const std::string& given) {
  if (const std::string scheme = OtherScheme(given); !scheme.empty()) {
    // A file may be named so.
    const absl::StatusOr<PathInfo> local = below_.Stat(given);
    if (local.ok() && local->exists) return given;
    const bool is_file = scheme == "file://";
    return Fail(kBadUrl, given, {},
                GotExpected(scheme, "https://, hf://, s3:// or gs://") +
                    (is_file ? "; give a file as its path" : "; download it first"));
  }
  if (const std::string url = CollapsedUrl(given); !url.empty()) {
    const absl::StatusOr<PathInfo> local = below_.Stat(given);
    if (local.ok() && local->exists) return given;
    return Fail(kBadUrl, given, {},
                GotExpected("one slash", url + "; a pathlib.Path joins slashes: give the URL as text"));
  }
  if (!IsUrl(given)) return given;
  Q4_ASSIGN_OR_RETURN(Network* const net, Net());
  return net->Adopt(given);
}

std::uint64_t NetFileSystem::memory() const {
  const std::lock_guard lock(mutex_);
  return network_ == nullptr ? 0 : network_->memory();
}

std::vector<std::string> NetFileSystem::Notes() const {
  const std::lock_guard lock(mutex_);
  return network_ == nullptr ? std::vector<std::string>() : network_->Notes();
}

absl::StatusOr<std::unique_ptr<RandomAccessFile>> NetFileSystem::OpenForRead(const std::string& path,
                                                                             SymbolicLinks links) {
  if (!IsUrl(path)) return below_.OpenForRead(path, links);
  Q4_ASSIGN_OR_RETURN(Network* const net, Net());
  return net->Open(path);
}

absl::StatusOr<PathInfo> NetFileSystem::Stat(const std::string& path) {
  if (!IsUrl(path)) return below_.Stat(path);
  Q4_ASSIGN_OR_RETURN(Network* const net, Net());
  return net->Stat(path);
}

absl::StatusOr<std::vector<std::string>> NetFileSystem::ListDirectory(const std::string& path) {
  if (!IsUrl(path)) return below_.ListDirectory(path);
  Q4_ASSIGN_OR_RETURN(Network* const net, Net());
  return net->ListDirectory(path);
}

absl::StatusOr<std::string> NetFileSystem::RealPath(const std::string& directory) {
  return IsUrl(directory) ? directory : below_.RealPath(directory);
}

absl::StatusOr<std::string> NetFileSystem::ReadLink(const std::string& path) {
  return IsUrl(path) ? FileSystem::ReadLink(path) : below_.ReadLink(path);
}

absl::StatusOr<std::unique_ptr<WritableFile>> NetFileSystem::CreateExclusive(const std::string& path) {
  if (IsUrl(path)) return Fail(kOutputIsUrl, path, {});
  return below_.CreateExclusive(path);
}

absl::StatusOr<std::unique_ptr<WritableFile>> NetFileSystem::OpenLocked(const std::string& path) {
  if (IsUrl(path)) return Fail(kOutputIsUrl, path, {});
  return below_.OpenLocked(path);
}

absl::Status NetFileSystem::Rename(const std::string& from, const std::string& to, bool replace) {
  return IsUrl(from) || IsUrl(to) ? Fail(kOutputIsUrl, to, {}) : below_.Rename(from, to, replace);
}

absl::Status NetFileSystem::Exchange(const std::string& a, const std::string& b) {
  return IsUrl(a) || IsUrl(b) ? Fail(kOutputIsUrl, b, {}) : below_.Exchange(a, b);
}

absl::Status NetFileSystem::CopyMode(const std::string& from, const std::string& to) {
  return IsUrl(from) || IsUrl(to) ? Fail(kOutputIsUrl, to, {}) : below_.CopyMode(from, to);
}

absl::Status NetFileSystem::SyncDirectory(const std::string& directory) {
  return IsUrl(directory) ? Fail(kOutputIsUrl, directory, {}) : below_.SyncDirectory(directory);
}

absl::Status NetFileSystem::Remove(const std::string& path) {
  return IsUrl(path) ? Fail(kOutputIsUrl, path, {}) : below_.Remove(path);
}

absl::Status NetFileSystem::RemoveDirectory(const std::string& path) {
  return IsUrl(path) ? Fail(kOutputIsUrl, path, {}) : below_.RemoveDirectory(path);
}

absl::Status NetFileSystem::CreateDirectory(const std::string& path) {
  return IsUrl(path) ? Fail(kOutputIsUrl, path, {}) : below_.CreateDirectory(path);
}

absl::StatusOr<std::unique_ptr<HeldDirectory>> NetFileSystem::Hold(const std::string& path) {
  if (IsUrl(path)) return Fail(kOutputIsUrl, path, {});
  return below_.Hold(path);
}

absl::Status NetFileSystem::CheckOurs(const std::string& path, bool shared) {
  return IsUrl(path) ? Fail(kOutputIsUrl, path, {}) : below_.CheckOurs(path, shared);
}

}  // namespace q4
