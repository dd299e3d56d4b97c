// The value itself is computed again, from the page, by tests/cli/root_test.py.
#include "libconvert/model/content_identity.h"

#include <atomic>
#include <string>

#include "formats/base/status.h"
#include "formats/q4/q4_issues.h"
#include "libconvert/model/model_issues.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

std::string Golden(const std::string& name) { return std::string(Q4_TESTDATA) + "/q4/" + name; }

std::unique_ptr<Q4Model> OpenGolden(const std::string& name) {
  return test::Must(Q4Model::Open(PosixFileSystem(), Golden(name)));
}

TEST_CASE("compressed or not, a model has one content identity, on any number of threads", "[content]") {
  const auto plain = OpenGolden("v1_full.q4"), compressed = OpenGolden("v1_full_zstd.q4");
  REQUIRE(plain->root() != compressed->root());
  const std::optional<Sha256> by_index = ContentIdentityOfIndex(*plain);
  REQUIRE(by_index);
  CHECK_FALSE(ContentIdentityOfIndex(*compressed));
  for (const unsigned threads : {1u, 7u}) {
    CHECK(test::Must(ContentIdentity(*plain, threads, nullptr)) == *by_index);
    CHECK(test::Must(ContentIdentity(*compressed, threads, nullptr)) == *by_index);
  }
}

TEST_CASE("one shard has no identity of the model", "[content]") {
  CHECK(ContentIdentityOfIndex(*OpenGolden("v1_sharded.q4.index.json")));
  CHECK_FALSE(ContentIdentityOfIndex(*OpenGolden("v1_sharded-00001-of-00002.q4")));
}

TEST_CASE("what is read for the identity is checked, and can be interrupted", "[content]") {
  const std::atomic<bool> cancel = true;
  const auto compressed = OpenGolden("v1_full_zstd.q4");
  CHECK(IssueNumberOf(ContentIdentity(*compressed, 2, &cancel).status()) == kContentInterrupted.number);
  const Q4Index& index = compressed->shards()[0]->index();
  std::size_t chunk = 0;
  while (index.chunks[chunk].codec == Q4Codec::kStored) ++chunk;
  std::string bytes = test::ReadBytes(Golden("v1_full_zstd.q4"));
  bytes[index.chunks[chunk].offset] ^= 1;
  const test::TempDir dir;
  const auto damaged = test::Must(Q4Model::Open(PosixFileSystem(), dir.Write("m.q4", bytes)));
  CHECK(IssueNumberOf(ContentIdentity(*damaged, 2, nullptr).status()) == kQ4ChunkDamaged.number);
}

}  // namespace
}  // namespace q4
