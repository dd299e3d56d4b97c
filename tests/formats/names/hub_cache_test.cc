// The row X02 of the hostile table tries each of the tools on such folders; here are the rules one by one.
#include "formats/names/hub_cache.h"

#include <filesystem>
#include <string>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::Must;
using test::TempDir;

// A cache with one repository, whose snapshot has the link "f".
struct Cache {
  Cache() {
    dir.Write("models--o--n/blobs/1234", "blob");
    std::filesystem::create_directories(dir.File("models--o--n/snapshots/abc/sub/deep"));
    repository = std::filesystem::canonical(dir.File("models--o--n")).string();
  }
  // The path of a new link in the snapshot.
  std::string Link(const std::string& target, const std::string& name = "f") {
    const std::string path = dir.File("models--o--n/snapshots/abc/" + name);
    std::filesystem::remove(path);
    std::filesystem::create_symlink(target, path);
    return path;
  }
  std::string Of(const std::string& path) const { return Must(HubCacheFile(PosixFileSystem(), path)); }

  TempDir dir;
  std::string repository;
};

TEST_CASE("a link from a snapshot into the blobs of its repository stands for the blob") {
  Cache cache;
  const std::string blob = cache.repository + "/blobs/1234";
  const std::string path = cache.Link("../../blobs/1234");
  CHECK(cache.Of(path) == blob);
  CHECK(cache.Of(cache.Link("../../../blobs/1234", "sub/f")) == blob);
  CHECK(cache.Of(cache.Link("../../../../blobs/1234", "sub/deep/f")) == blob);
  // Reached in another way.
  std::filesystem::create_symlink(cache.repository + "/snapshots/abc", cache.dir.File("latest"));
  CHECK(cache.Of(cache.dir.File("latest/f")) == blob);
  CHECK(cache.Of(cache.dir.File("latest/sub/../f")) == blob);
  CHECK(MayFollow(PosixFileSystem(), path, SymbolicLinks::kRefuse).ok());
  CHECK(MayFollow(PosixFileSystem(), path, SymbolicLinks::kFollow).ok());
  CHECK(IssueNumberOf(MayFollow(PosixFileSystem(), path, SymbolicLinks::kNever)) == kSymbolicLink.number);
  const auto file = PosixFileSystem().OpenForRead(path, SymbolicLinks::kRefuse);
  REQUIRE(file.ok());
  CHECK((*file)->path() == path);
  CHECK((*file)->size() == 4);
  CHECK(IssueNumberOf(PosixFileSystem().OpenForRead(path, SymbolicLinks::kNever).status()) == kSymbolicLink.number);
  // A download that is not complete: the blob is not there yet.
  CHECK(cache.Of(cache.Link("../../blobs/none")) == cache.repository + "/blobs/none");
}

TEST_CASE("any other link of a snapshot stands for nothing") {
  Cache cache;
  cache.dir.Write("secret", "s");
  cache.dir.Write("models--x/blobs/1234", "other");
  cache.dir.Write("models--o--n/blobs/d/1234", "deeper");
  for (const char* target :
       {"../../../secret", "../../blobs/../../secret", "../../blobs/./1234", "../../blobs//1234", "../../blobs/",
        "../../blobs/..", "../../blobs/.hidden", "../../blobs/d/1234", "../../blobs", "../blobs/1234",
        "../../../blobs/1234", "../../../models--x/blobs/1234", "../../../models--o--n/blobs/1234",
        "./../../blobs/1234", "sub/../../../blobs/1234", "/etc/passwd", "../ab/blobs/1234", "ab/../blobs/1234"}) {
    INFO(target);
    CHECK(cache.Of(cache.Link(target)).empty());
  }
  CHECK(cache.Of(cache.Link(cache.repository + "/blobs/1234")).empty());
  const std::string path = cache.Link("../../../secret");
  CHECK(IssueNumberOf(PosixFileSystem().OpenForRead(path, SymbolicLinks::kRefuse).status()) == kSymbolicLink.number);
  // The blob is itself a link.
  std::filesystem::create_symlink("../../secret", cache.dir.File("models--o--n/blobs/5678"));
  CHECK(cache.Of(cache.Link("../../blobs/5678")).empty());
  // So are the blobs.
  std::filesystem::rename(cache.repository + "/blobs", cache.dir.File("away"));
  std::filesystem::create_directory_symlink("../away", cache.repository + "/blobs");
  CHECK(cache.Of(cache.Link("../../blobs/1234")).empty());
}

TEST_CASE("a blob of the cache's shared store") {
  Cache cache;
  const std::string hash(64, 'e');
  const std::string path = cache.Link("../../blobs/9abc");
  const auto share = [&](const std::string& target) {
    std::filesystem::remove(cache.repository + "/blobs/9abc");
    std::filesystem::create_symlink(target, cache.repository + "/blobs/9abc");
  };
  cache.dir.Write("blobs/ee/" + hash, "shared");
  share("../../blobs/ee/" + hash);
  CHECK(cache.Of(path).empty());  // not marked as a store
  cache.dir.Write("blobs/.huggingface-shared-blobs", "1\n");
  CHECK(cache.Of(path).ends_with("/blobs/ee/" + hash));
  cache.dir.Write("blobs/ff/" + hash, "wrong place");
  for (const std::string& target : {"../../blobs/ff/" + hash, "../../blobs/ee/" + hash.substr(1),
                                    "../../blobs/ee/../ee/" + hash, "../../../x/blobs/ee/" + hash}) {
    INFO(target);
    share(target);
    CHECK(cache.Of(path).empty());
  }
  share("../../blobs/ee/" + hash);
  std::filesystem::remove(cache.dir.File("blobs/ee/" + hash));
  std::filesystem::create_symlink("../../models--o--n/blobs/1234", cache.dir.File("blobs/ee/" + hash));
  CHECK(cache.Of(path).empty());
}

}  // namespace
}  // namespace q4
