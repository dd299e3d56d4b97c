// A place on a network where a model lies: what is in it, and what lies at a path. One for each hub repository, server
// or bucket that a run reads. Thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/net/remote_object.h"
#include "formats/net/sigv4.h"
#include "formats/net/transfer.h"

namespace q4 {

// What lies at a path.
struct NetEntry {
  enum class Kind { kNothing, kFile, kFolder } kind = Kind::kNothing;
  // Of a file.
  NetTarget target;
  ListedFile listed;
};

class NetSource {
 public:
  virtual ~NetSource() = default;
  // What lies at `path`, which begins with the place's own name. A source without listings gives kFile with
  // `listed.known` false for whatever may be one: only a request tells.
  virtual absl::StatusOr<NetEntry> Find(const std::string& path) = 0;
  // Names in the folder at `path`, sorted. A source without listings gives names that may be there, `known` false.
  struct Names {
    std::vector<std::string> names;
    bool known = true;
  };
  virtual absl::StatusOr<Names> List(const std::string& path) = 0;
  // For people: which commit a branch was, and the like.
  virtual std::vector<std::string> Notes() { return {}; }
};

// "hf://ORG/NAME@REVISION": files by the hub's list of one commit.
absl::StatusOr<std::unique_ptr<NetSource>> OpenHub(const NetTransfer& transfer, const std::string& root);

// Files at https://: what lies in a folder is asked for by the names that files of models have.
struct WebAccess {
  std::string query;     // "?...", added to each URL: signed access to a folder
  std::string userinfo;  // "user:secret", percent-encoded
};
std::unique_ptr<NetSource> OpenWeb(const std::string& origin, const WebAccess& access);

// Objects of a bucket, by the interface of S3.
struct BucketAccess {
  std::string origin;  // "https://host"
  std::string path;    // before the key: "/bucket", or "" where the host names the bucket; not encoded
  AwsKey key;          // no id: only what everybody may read
  std::string bearer;  // in its place, of Google's storage
  std::string region;
  std::string when_denied;
};
std::unique_ptr<NetSource> OpenBucket(const NetTransfer& transfer, const std::string& root, const BucketAccess& access);
// How the bucket of "s3://BUCKET" or "gs://BUCKET" is reached. kBadUrl for what is no name of a bucket.
absl::StatusOr<BucketAccess> AccessOfBucket(const NetSettings& settings, const std::string& root);

}  // namespace q4
