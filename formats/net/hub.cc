// The hub's interface as huggingface_hub uses it: a revision is resolved to its commit once, all files are those of
// that commit, and large ones come by a redirect to a storage, with the SHA-256 of their content in the list.
#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string_view>

#include "absl/strings/str_split.h"
#include "fmt/format.h"
#include "formats/base/content_tag.h"
#include "formats/base/json_value.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/net/net_issues.h"
#include "formats/net/net_source.h"
#include "formats/net/url.h"

namespace q4 {
namespace {

// What a page of a list, or the description of a model, may have. Descriptions list all files too.
constexpr std::uint64_t kDocumentBytes = 32u << 20;
constexpr int kMostPages = 200;
constexpr std::size_t kMostFiles = 100'000;

bool IsHex(std::string_view text, std::size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// A path of git: components that are names.
bool IsPlainPath(std::string_view path) {
  if (path.empty() || path.size() > 4096 || !IsUtf8(path)) return false;
  for (const absl::string_view part : absl::StrSplit(absl::string_view(path.data(), path.size()), '/')) {
    if (part.empty() || part == "." || part == "..") return false;
  }
  return std::none_of(path.begin(), path.end(), [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; });
}

// `<https://...>; rel="next"` -> the URL; "" if there is none.
std::string NextPage(std::string_view link) {
  for (const absl::string_view part : absl::StrSplit(absl::string_view(link.data(), link.size()), ',')) {
    const std::string text(part);
    const std::size_t begin = text.find('<'), end = text.find('>');
    if (begin == std::string::npos || end == std::string::npos || end < begin) continue;
    if (text.find("rel=\"next\"", end) != std::string::npos) return text.substr(begin + 1, end - begin - 1);
  }
  return {};
}

const std::string* TextMember(const Json& value, std::string_view key) {
  const Json* const member = FindMember(value, key);
  return member != nullptr && member->is_string() ? &member->get_ref<const std::string&>() : nullptr;
}

class Hub final : public NetSource {
 public:
  Hub(const NetTransfer& transfer, std::string root, HubPath path)
      : transfer_(transfer), root_(std::move(root)), path_(std::move(path)) {}

  absl::StatusOr<NetEntry> Find(const std::string& path) override {
    Q4_RETURN_IF_ERROR(Load());
    const std::string inside = Inside(path);
    NetEntry entry;
    if (folders_.contains(inside)) {
      entry.kind = NetEntry::Kind::kFolder;
    } else if (const auto file = files_.find(inside); file != files_.end()) {
      entry.kind = NetEntry::Kind::kFile;
      entry.listed = file->second;
      entry.target = Target(fmt::format("{}/{}/resolve/{}/{}", transfer_.settings().hub_endpoint, path_.repository,
                                        commit_, EncodePath(inside)),
                            path);
    }
    return entry;
  }

  absl::StatusOr<Names> List(const std::string& path) override {
    Q4_RETURN_IF_ERROR(Load());
    const auto folder = folders_.find(Inside(path));
    Names names;
    if (folder != folders_.end()) names.names.assign(folder->second.begin(), folder->second.end());
    return names;
  }

  std::vector<std::string> Notes() override {
    const std::lock_guard lock(mutex_);
    if (commit_.empty() || path_.revision == commit_) return {};
    return {fmt::format("{} is read as it is in commit {}", Printable(root_), commit_)};
  }

 private:
  static std::string Inside(const std::string& path) {
    // A path of this source was parsed before.
    const absl::StatusOr<HubPath> parsed = ParseHubPath(path);
    return parsed.ok() ? parsed->inside : std::string();
  }

  NetTarget Target(std::string url, std::string name) const {
    NetTarget target;
    target.url = std::move(url);
    target.name = std::move(name);
    const std::string& token = transfer_.settings().hub_token;
    if (token.empty()) {
      target.when_denied =
          "; a private or gated model, or none of this name: set HF_TOKEN, and accept its terms on its page";
    } else {
      target.when_denied = fmt::format("; the token of {} may not read it: accept the terms on the model's page",
                                       transfer_.settings().hub_token_from);
      target.credentials = [token] { return std::vector<std::string>{"Authorization: Bearer " + token}; };
    }
    return target;
  }

  // Once; an error stays.
  absl::Status Load() {
    const std::lock_guard lock(mutex_);
    if (!loaded_) loaded_ = LoadNow();
    return *loaded_;
  }

  absl::Status LoadNow() {
    const std::string api = fmt::format("{}/api/models/{}", transfer_.settings().hub_endpoint, path_.repository);
    const std::string revision = path_.revision.empty() ? "main" : path_.revision;
    Q4_ASSIGN_OR_RETURN(const std::string text,
                        transfer_.GetText(Target(fmt::format("{}/revision/{}", api, EncodeComponent(revision)), root_),
                                          kDocumentBytes, nullptr));
    Q4_ASSIGN_OR_RETURN(const Json model, ParseModelJson(text, root_));
    const std::string* const commit = TextMember(model, "sha");
    if (commit == nullptr || !IsHex(*commit, 40)) return Fail(kBadReply, root_, "sha", "got no commit");
    std::string next = fmt::format("{}/tree/{}?recursive=true", api, *commit);
    const Url home = *ParseUrl(next);
    folders_[""];
    for (int page = 0; !next.empty(); ++page) {
      if (page == kMostPages) return Fail(kListingTooLarge, root_, {}, fmt::format("more than {} pages", kMostPages));
      NetReply reply;
      Q4_ASSIGN_OR_RETURN(const std::string list, transfer_.GetText(Target(next, root_), kDocumentBytes, &reply));
      Q4_ASSIGN_OR_RETURN(const Json entries, ParseModelJson(list, root_));
      if (!entries.is_array()) return Fail(kBadReply, root_, "tree", "got no list of files");
      for (const Json& entry : entries) Q4_RETURN_IF_ERROR(AddEntry(entry));
      next = NextPage(reply.Header("link"));
      if (next.empty()) break;
      const absl::StatusOr<Url> url = ParseUrl(next);
      // The token goes with it.
      if (!url.ok() || url->origin() != home.origin())
        return Fail(kBadReply, root_, "tree", "the next page is elsewhere");
    }
    commit_ = *commit;
    return absl::OkStatus();
  }

  absl::Status AddEntry(const Json& entry) {
    const std::string* const path = TextMember(entry, "path");
    const std::string* const type = TextMember(entry, "type");
    if (path == nullptr || type == nullptr || !IsPlainPath(*path))
      return Fail(kBadReply, root_, "tree", "an entry without a path");
    if (files_.size() >= kMostFiles || folders_.size() >= kMostFiles) {
      return Fail(kListingTooLarge, root_, {}, fmt::format("more than {} files", kMostFiles));
    }
    // Each folder on the way, so that a list without folders gives them too.
    std::string above;
    for (std::size_t slash = 0; slash != std::string::npos;) {
      const std::size_t end = path->find('/', slash);
      const std::string part = path->substr(slash, end == std::string::npos ? end : end - slash);
      folders_[above].insert(part);
      slash = end == std::string::npos ? end : end + 1;
      if (end != std::string::npos) above = path->substr(0, end);
    }
    if (*type == "directory") {
      folders_[*path];
      return absl::OkStatus();
    }
    const Json* const size = FindMember(entry, "size");
    const Json* const lfs = FindMember(entry, "lfs");
    const std::string* const oid = TextMember(entry, "oid");
    if (size == nullptr || !size->is_number_unsigned() || oid == nullptr) {
      return Fail(kBadReply, root_, *path, "an entry without size or oid");
    }
    ListedFile file;
    file.known = true;
    file.size = size->get<std::uint64_t>();
    file.tag = "git:" + *oid;
    if (lfs != nullptr && lfs->is_object()) {
      const std::string* const digest = TextMember(*lfs, "oid");
      const Json* const bytes = FindMember(*lfs, "size");
      if (digest == nullptr || !IsHex(*digest, 64) || bytes == nullptr || !bytes->is_number_unsigned()) {
        return Fail(kBadReply, root_, *path, "got no SHA-256 or size");
      }
      file.size = bytes->get<std::uint64_t>();
      file.tag = std::string(kSha256Tag) + *digest;
    }
    files_[*path] = file;
    return absl::OkStatus();
  }

  const NetTransfer& transfer_;
  const std::string root_;
  const HubPath path_;
  std::mutex mutex_;
  std::optional<absl::Status> loaded_;
  // Written before `loaded_`.
  std::string commit_;
  std::map<std::string, ListedFile> files_;
  std::map<std::string, std::set<std::string>> folders_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<NetSource>> OpenHub(const NetTransfer& transfer, const std::string& root) {
  Q4_ASSIGN_OR_RETURN(HubPath path, ParseHubPath(root));
  return std::unique_ptr<NetSource>(std::make_unique<Hub>(transfer, root, std::move(path)));
}

}  // namespace q4
