// Buckets by the interface of S3: ListObjectsV2 of one folder at a time, and objects by GET. Google's storage speaks it
// too.
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string_view>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/net/net_issues.h"
#include "formats/net/net_source.h"
#include "formats/net/sigv4.h"
#include "formats/net/url.h"

namespace q4 {
namespace {

// A page has 1,000 keys of at most 1,024 bytes, which encoding makes up to three times as long.
constexpr std::uint64_t kPageBytes = 16u << 20;
constexpr int kMostListPages = 100;

// What lies between <tag> and </tag>, from `*at` on, which moves behind it; nullopt if there is none. A listing has no
// attributes on what is asked for here, no comments and no sections of other kinds.
std::optional<std::string_view> Between(std::string_view text, std::string_view tag, std::size_t* at) {
  const std::string open = fmt::format("<{}>", tag), close = fmt::format("</{}>", tag);
  const std::size_t begin = text.find(open, *at);
  if (begin == std::string_view::npos) return std::nullopt;
  const std::size_t end = text.find(close, begin);
  if (end == std::string_view::npos) return std::nullopt;
  *at = end + close.size();
  return text.substr(begin + open.size(), end - begin - open.size());
}

std::string Element(std::string_view text, std::string_view tag) {
  std::size_t at = 0;
  std::string out(Between(text, tag, &at).value_or(std::string_view()));
  constexpr std::pair<std::string_view, std::string_view> kEntities[] = {
      {"&quot;", "\""}, {"&#34;", "\""}, {"&apos;", "'"}, {"&#39;", "'"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&amp;", "&"}};
  for (const auto& [entity, character] : kEntities) {
    for (std::size_t found = 0; (found = out.find(entity, found)) != std::string::npos; found += character.size()) {
      out.replace(found, entity.size(), character);
    }
  }
  return out;
}

// Keys as encoding-type=url gives them; "+" is a space.
std::string DecodeKey(std::string key) {
  std::replace(key.begin(), key.end(), '+', ' ');
  std::string out;
  for (std::size_t i = 0; i < key.size(); ++i) {
    unsigned value = 0;
    const bool code = key[i] == '%' && i + 2 < key.size() &&
                      std::from_chars(key.data() + i + 1, key.data() + i + 3, value, 16).ptr == key.data() + i + 3;
    out.push_back(code ? static_cast<char>(value) : key[i]);
    if (code) i += 2;
  }
  return out;
}

class Bucket final : public NetSource {
 public:
  Bucket(const NetTransfer& transfer, std::string root, BucketAccess access)
      : transfer_(transfer), root_(std::move(root)), access_(std::move(access)) {}

  absl::StatusOr<NetEntry> Find(const std::string& path) override {
    NetEntry entry;
    const std::string key = KeyOf(path);
    const std::size_t slash = key.rfind('/');
    const std::string parent = slash == std::string::npos ? "" : key.substr(0, slash);
    // What was asked for first is the model's folder, and what lies beside it may be anything. So it is listed itself;
    // only what is no folder is looked for in its own.
    if (key.empty() || !Listed(parent)) {
      Q4_ASSIGN_OR_RETURN(const Folder* const self, FolderAt(key));
      if (key.empty() || !self->empty()) {
        entry.kind = NetEntry::Kind::kFolder;
        return entry;
      }
    }
    Q4_ASSIGN_OR_RETURN(const Folder* const folder, FolderAt(parent));
    const auto found = folder->find(slash == std::string::npos ? key : key.substr(slash + 1));
    if (found == folder->end()) return entry;
    entry.kind = found->second ? NetEntry::Kind::kFile : NetEntry::Kind::kFolder;
    if (!found->second) return entry;
    entry.listed = *found->second;
    entry.target = Target(key, {}, path);
    return entry;
  }

  absl::StatusOr<Names> List(const std::string& path) override {
    Q4_ASSIGN_OR_RETURN(const Folder* const folder, FolderAt(KeyOf(path)));
    Names names;
    for (const auto& [name, file] : *folder) names.names.push_back(name);
    return names;
  }

 private:
  // Names in a folder; a folder in it has no file.
  using Folder = std::map<std::string, std::optional<ListedFile>>;

  std::string KeyOf(const std::string& path) const {
    std::string key = path.substr(std::min(root_.size(), path.size()));
    while (key.starts_with('/')) key.erase(0, 1);
    while (key.ends_with('/')) key.pop_back();
    return key;
  }

  bool Listed(const std::string& key) {
    const std::lock_guard lock(mutex_);
    return folders_.contains(key);
  }

  // `key`: "" for the bucket itself.
  NetTarget Target(const std::string& key, const QueryItems& query, std::string name) const {
    NetTarget target;
    const std::string path = access_.path + "/" + key;
    target.url = access_.origin + EncodePath(path) + (query.empty() ? "" : "?" + EncodeQuery(query));
    target.name = std::move(name);
    target.when_denied = access_.when_denied;
    const std::string host = access_.origin.substr(access_.origin.find("://") + 3);
    if (!access_.bearer.empty()) {
      target.credentials = [token = access_.bearer] {
        return std::vector<std::string>{"Authorization: Bearer " + token};
      };
    } else if (!access_.key.id.empty()) {
      target.credentials = [host, path, query, key_of = access_.key, region = access_.region] {
        return S3Headers(host, path, query, key_of, region, std::time(nullptr));
      };
    }
    return target;
  }

  absl::StatusOr<const Folder*> FolderAt(const std::string& key) {
    const std::lock_guard lock(mutex_);
    if (const auto known = folders_.find(key); known != folders_.end()) return &known->second;
    const std::string name = key.empty() ? root_ : root_ + "/" + key;
    const std::string prefix = key.empty() ? "" : key + "/";
    Folder folder;
    std::string token;
    for (int page = 0;; ++page) {
      if (page == kMostListPages)
        return Fail(kListingTooLarge, name, {}, fmt::format("more than {} pages", kMostListPages));
      QueryItems query = {{"list-type", "2"}, {"delimiter", "/"}, {"encoding-type", "url"}, {"prefix", prefix}};
      if (!token.empty()) query.emplace_back("continuation-token", token);
      Q4_ASSIGN_OR_RETURN(const std::string text, transfer_.GetText(Target("", query, name), kPageBytes, nullptr));
      if (text.find("<ListBucketResult") == std::string::npos)
        return Fail(kBadReply, name, {}, "got no list of objects");
      for (std::size_t at = 0; const auto item = Between(text, "Contents", &at);) {
        Q4_RETURN_IF_ERROR(AddObject(name, prefix, *item, &folder));
      }
      for (std::size_t at = 0; const auto item = Between(text, "CommonPrefixes", &at);) {
        std::string below = DecodeKey(Element(*item, "Prefix"));
        if (!below.starts_with(prefix) || !below.ends_with('/'))
          return Fail(kBadReply, name, {}, "a folder that is elsewhere");
        below = below.substr(prefix.size(), below.size() - prefix.size() - 1);
        // What a path cannot name cannot be a part of a model.
        if (below.empty() || below == "." || below == ".." || below.find('/') != std::string::npos) continue;
        folder.emplace(below, std::nullopt);
      }
      if (Element(text, "IsTruncated") != "true") break;
      token = Element(text, "NextContinuationToken");
      if (token.empty()) return Fail(kBadReply, name, {}, "a list that goes on nowhere");
    }
    return &folders_.emplace(key, std::move(folder)).first->second;
  }

  static absl::Status AddObject(const std::string& name, const std::string& prefix, std::string_view item,
                                Folder* folder) {
    std::string key = DecodeKey(Element(item, "Key"));
    const std::string size = Element(item, "Size");
    ListedFile file;
    file.known = true;
    const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), file.size);
    if (!key.starts_with(prefix) || error != std::errc() || end != size.data() + size.size()) {
      return Fail(kBadReply, name, key, "an object that is elsewhere, or has no size");
    }
    key.erase(0, prefix.size());
    // The folder itself, as some programs make one; and names that no path can have.
    if (key.empty() || key == "." || key == ".." || key.find('/') != std::string::npos) return absl::OkStatus();
    file.tag = "etag:" + Element(item, "ETag");
    folder->insert_or_assign(key, file);
    return absl::OkStatus();
  }

  const NetTransfer& transfer_;
  const std::string root_;
  const BucketAccess access_;
  std::mutex mutex_;
  std::map<std::string, Folder> folders_;  // by key
};

// Names as S3 and Google allow them.
bool IsBucketName(std::string_view name) {
  return name.size() >= 3 && name.size() <= 222 &&
         std::all_of(name.begin(), name.end(),
                     [](char c) {
                       return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
                     }) &&
         name.front() != '.' && name.find("..") == std::string_view::npos;
}

}  // namespace

absl::StatusOr<BucketAccess> AccessOfBucket(const NetSettings& settings, const std::string& root) {
  const bool google = root.starts_with("gs://");
  const std::string bucket = root.substr(5);
  if (!IsBucketName(bucket)) return Fail(kBadUrl, root, {}, "no name of a bucket");
  BucketAccess access;
  access.path = "/" + bucket;
  if (google) {
    access.origin = settings.gcs_endpoint;
    access.key = settings.gcs_key;
    access.bearer = settings.gcs_token;
    access.region = "auto";
    const bool anonymous = access.bearer.empty() && access.key.id.empty();
    access.when_denied = anonymous
                             ? "; set GOOGLE_OAUTH_ACCESS_TOKEN=$(gcloud auth print-access-token), or an HMAC key as "
                               "GCS_HMAC_ACCESS_ID and GCS_HMAC_SECRET"
                             : "; with the credentials of the environment";
    return access;
  }
  access.key = settings.aws_key;
  access.region = settings.aws_region;
  access.when_denied = access.key.id.empty()
                           ? "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, as eval \"$(aws configure "
                             "export-credentials --format env)\" does"
                           : "; with the AWS_ACCESS_KEY_ID of the environment, in the region " + access.region;
  if (!settings.aws_endpoint.empty()) {
    const std::size_t slash = settings.aws_endpoint.find('/', settings.aws_endpoint.find("://") + 3);
    access.origin = settings.aws_endpoint.substr(0, slash);
    if (slash != std::string::npos) access.path.insert(0, settings.aws_endpoint.substr(slash));
  } else if (bucket.find('.') != std::string::npos || bucket.find('_') != std::string::npos) {
    // No certificate is of such a host.
    access.origin = fmt::format("https://s3.{}.amazonaws.com", access.region);
  } else {
    access.origin = fmt::format("https://{}.s3.{}.amazonaws.com", bucket, access.region);
    access.path.clear();
  }
  return access;
}

std::unique_ptr<NetSource> OpenBucket(const NetTransfer& transfer, const std::string& root,
                                      const BucketAccess& access) {
  return std::make_unique<Bucket>(transfer, root, access);
}

}  // namespace q4
