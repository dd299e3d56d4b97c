#include "libconvert/source/file_hasher.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "formats/source/checkpoint.h"
#include "libconvert/source/file_digest.h"
#include "libconvert/source/source_issues.h"
#include "libconvert/source/source_reader.h"
#include "tests/support/catch.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/memory_file_system.h"

namespace q4 {
namespace {

constexpr std::uint64_t kBudget = 64 << 20;  // all of a test: pieces of one byte occupy a page each

// Files of random bytes, in which U8 tensors lie where a test says: {file, offset, bytes}.
struct Scattered {
  // Tensor `made`, if there is one of that number, has another recipe than the others.
  Scattered(const std::vector<std::uint64_t>& file_bytes, const std::vector<SourceExtent>& extents,
            std::size_t made = ~std::size_t{0}, SourceRecipe recipe = SourceRecipe::kPlain) {
    std::mt19937 random(7);
    std::vector<CheckpointFile> files;
    for (std::size_t i = 0; i < file_bytes.size(); ++i) {
      const std::string name = fmt::format("f{}", i);
      for (std::uint64_t n = 0; n < file_bytes[i]; ++n) fs[name].push_back(static_cast<std::uint8_t>(random()));
      files.push_back({name, *fs.OpenForRead(name)});
    }
    std::vector<SourceTensor> tensors;
    for (const SourceExtent& extent : extents) {
      SourceTensor& tensor = tensors.emplace_back();
      tensor.name = fmt::format("t{}", tensors.size());
      tensor.dtype = DType::kU8;
      tensor.shape = {extent.bytes};
      tensor.elems = tensor.bytes = extent.bytes;
      if (tensors.size() == made + 1) tensor.recipe = recipe;
      tensor.extents.assign(1, extent);
    }
    CheckpointContent content;
    content.files = std::move(files);
    content.tensors = std::move(tensors);
    checkpoint = std::make_unique<Checkpoint>(std::move(content));
  }

  std::vector<std::string> Digests(SourceDigest kind) {
    std::vector<std::string> digests;
    for (const CheckpointFile& file : checkpoint->files()) {
      const test::Bytes& bytes = fs[file.name];
      digests.push_back(kind == SourceDigest::kSha256 ? HexOf(Sha256Of(bytes))
                                                      : fmt::format("{:016x}", Xxh3(bytes, 0)));
    }
    return digests;
  }

  // The digest state after the first `bytes` of a file.
  SourceDigestState After(std::uint32_t file, std::uint64_t bytes) {
    Sha256Stream stream;
    stream.Update(std::span(fs[checkpoint->files()[file].name]).first(bytes));
    return {file, stream.Save()};
  }

  // Reads tensors from `first` on, `slab` bytes at a time, in an order that `seed` decides.
  std::vector<std::string> Hash(SourceDigest kind, const std::vector<SourceDigestState>& done, std::size_t first,
                                std::uint64_t slab, unsigned seed, unsigned threads = 1) {
    std::vector<std::pair<const SourceTensor*, std::uint64_t>> slabs;
    for (std::size_t i = first; i < checkpoint->tensors().size(); ++i) {
      for (std::uint64_t at = 0; at < checkpoint->tensors()[i].elems; at += slab) {
        slabs.emplace_back(&checkpoint->tensors()[i], at);
      }
    }
    std::mt19937 random(seed);
    std::shuffle(slabs.begin(), slabs.end(), random);
    MemoryBudget budget(kBudget);
    BufferMemory memory;
    BufferPool pool(&budget, &memory);
    const SourceReader reader(*checkpoint);
    FileHasher hasher(*checkpoint, kind, threads, done, first);
    for (const auto& [tensor, at] : slabs) {
      const std::shared_ptr<Buffer> buffer = pool.Get(std::min(slab, tensor->elems - at));
      REQUIRE(reader.ReadAndHash(*tensor, at, buffer, &hasher).ok());
      brought += buffer->size();
    }
    const auto digests = hasher.Finish();
    REQUIRE(digests.ok());
    return *digests;
  }

  std::uint64_t BytesRead() {
    std::uint64_t bytes = 0;
    for (const LoggedRead& read : fs.TakeReads()) bytes += read.bytes;
    return bytes;
  }

  MemoryFileSystem fs;
  std::unique_ptr<Checkpoint> checkpoint;
  std::uint64_t brought = 0;
};

TEST_CASE("a digest of a file that nobody read to its end is an error") {
  const auto checkpoint = OpenCheckpoint(PosixFileSystem(), std::string(Q4_TESTDATA) + "/checkpoints/tiny_plain_src");
  REQUIRE(checkpoint.ok());
  FileHasher hasher(**checkpoint, SourceDigest::kSha256, 1, {}, 0);
  const auto digests = hasher.Finish();
  CHECK(IssueNumberOf(digests.status()) == kSourceUnread.number);
  CHECK(ExitCodeOf(digests.status()) == ExitCode::kInternal);
}

TEST_CASE("tensors need not fill their files: the hasher reads what nobody brings, and only that") {
  // Headers, a hole, bytes behind the last tensor, a tensor without bytes, a file without tensors.
  const std::vector<std::uint64_t> files = {1000, 50, 700};
  const std::vector<SourceExtent> extents = {{0, 100, 300}, {0, 400, 0}, {0, 450, 200}, {2, 0, 10}, {2, 77, 600}};
  for (const SourceDigest kind : {SourceDigest::kSha256, SourceDigest::kXxh3}) {
    for (unsigned seed = 0; seed < 20; ++seed) {
      Scattered source(files, extents);
      CHECK(source.Hash(kind, {}, 0, 1 + seed * 13, seed) == source.Digests(kind));
      CHECK(source.brought == 1110);
      CHECK(source.BytesRead() == 1000 + 50 + 700);
    }
  }
}

TEST_CASE("of a tensor whose elements are not stored as they are, the hasher reads the stored bytes") {
  constexpr auto kLater = static_cast<SourceRecipe>(200);  // a recipe that somebody will add
  for (std::size_t made = 0; made < 3; ++made) {
    Scattered source({1000}, {{0, 100, 300}, {0, 400, 50}, {0, 450, 200}}, made, kLater);
    CHECK(source.Hash(SourceDigest::kSha256, {}, 0, 64, 1) == source.Digests(SourceDigest::kSha256));
    CHECK(source.BytesRead() == 1000 + source.checkpoint->tensors()[made].bytes);  // those once more
  }
}

TEST_CASE("bytes of several tensors are digested once") {
  // The same bytes, a part of them, and some beyond.
  const std::vector<SourceExtent> extents = {{0, 8, 200}, {0, 8, 200}, {0, 50, 90}, {0, 100, 300}, {0, 390, 60}};
  for (unsigned seed = 0; seed < 50; ++seed) {
    Scattered source({500}, extents);
    CHECK(source.Hash(SourceDigest::kSha256, {}, 0, 1 + seed * 7, seed) == source.Digests(SourceDigest::kSha256));
  }
}

TEST_CASE("a resumed run goes on with the digests of the earlier one, wherever they stood") {
  const std::vector<SourceExtent> extents = {{0, 64, 100}, {0, 200, 300}, {1, 30, 500}, {1, 530, 70}};
  for (std::size_t first = 0; first <= extents.size(); ++first) {
    for (const std::uint64_t begun : {1, 64, 150, 333, 640}) {  // bytes of file 0
      Scattered source({640, 600}, extents);
      const std::vector<SourceDigestState> done = {source.After(0, begun)};
      for (unsigned seed = 0; seed < 5; ++seed) {
        CHECK(source.Hash(SourceDigest::kSha256, done, first, 64, seed) == source.Digests(SourceDigest::kSha256));
        CHECK(source.Hash(SourceDigest::kXxh3, {}, first, 64, seed) == source.Digests(SourceDigest::kXxh3));
      }
    }
  }
}

TEST_CASE("files are digested side by side on many threads, and no byte is read twice", "[threads]") {
  std::vector<std::uint64_t> files;
  std::vector<SourceExtent> extents;
  std::uint64_t all = 0;
  // More files than threads; some without tensors, some without a header.
  for (std::uint32_t i = 0; i < 12; ++i) {
    files.push_back(500 + 37 * i);
    all += files.back();
    if (i % 5 == 3) continue;
    extents.push_back({i, i % 2 * 64, 200});
    extents.push_back({i, 300, files.back() - 300 - i});
  }
  for (const unsigned threads : {2u, 4u, 16u, 64u}) {
    for (unsigned seed = 0; seed < 10; ++seed) {
      Scattered source(files, extents);
      CHECK(source.Hash(SourceDigest::kSha256, {}, 0, 64, seed, threads) == source.Digests(SourceDigest::kSha256));
      CHECK(source.BytesRead() == all);
    }
  }
}

// Of the machine's files, some ranges of which are "in the page cache": all, none, or what was fetched.
class CachedFile : public test::ForwardingFile {
 public:
  enum class Cache { kAll, kNone, kFetched, kFirstHalf };
  CachedFile(std::unique_ptr<RandomAccessFile> file, Cache cache, std::atomic<std::uint64_t>* stored)
      : ForwardingFile(std::move(file)), cache_(cache), stored_(stored) {}
  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    *stored_ += out.size();
    return ForwardingFile::ReadAt(offset, out);
  }
  bool ReadCached(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    const std::uint64_t end = offset + out.size();
    if (cache_ == Cache::kNone || (cache_ == Cache::kFetched && end > fetched_) ||
        (cache_ == Cache::kFirstHalf && end > size() / 2)) {
      return false;
    }
    return ForwardingFile::ReadAt(offset, out).ok();
  }
  void Prefetch(std::uint64_t offset, std::uint64_t bytes) const override { fetched_ = offset + bytes; }

 private:
  const Cache cache_;
  std::atomic<std::uint64_t>* stored_;
  mutable std::atomic<std::uint64_t> fetched_ = 0;
};

TEST_CASE("with many threads digests run ahead by the page cache, and ask storage for nothing twice", "[threads]") {
  using Cache = CachedFile::Cache;
  const std::string folder = std::string(Q4_TESTDATA) + "/checkpoints/tiny_plain_src/";
  for (const Cache cache : {Cache::kAll, Cache::kNone, Cache::kFetched, Cache::kFirstHalf}) {
    for (unsigned seed = 0; seed < 6; ++seed) {
      std::atomic<std::uint64_t> stored = 0;
      CheckpointContent content;
      std::uint64_t all = 0;
      // One file under four names: two tensors each, and a little that belongs to none.
      for (std::uint32_t i = 0; i < 4; ++i) {
        auto file = PosixFileSystem().OpenForRead(folder + "model.safetensors");
        REQUIRE(file.ok());
        const std::uint64_t size = (*file)->size();
        all += size;
        content.files.push_back(
            {fmt::format("f{}", i), std::make_unique<CachedFile>(*std::move(file), cache, &stored)});
        for (const SourceExtent extent : {SourceExtent{i, 100, size / 3}, SourceExtent{i, 120 + size / 3, size / 2}}) {
          SourceTensor& tensor = content.tensors.emplace_back();
          tensor.dtype = DType::kU8;
          tensor.elems = tensor.bytes = extent.bytes;
          tensor.shape = {extent.bytes};
          tensor.extents.assign(1, extent);
        }
      }
      const Checkpoint checkpoint(std::move(content));
      const auto want = FileDigest(*checkpoint.files()[0].file, "sha256", nullptr, kSourceUnread);
      REQUIRE(want.ok());
      stored = 0;
      MemoryBudget budget(kBudget);
      BufferMemory memory;
      BufferPool pool(&budget, &memory);
      const SourceReader reader(checkpoint);
      {
        FileHasher hasher(checkpoint, SourceDigest::kSha256, 16, {}, 0);
        std::mt19937 random(seed);
        for (const SourceTensor& tensor : checkpoint.tensors()) {
          for (std::uint64_t at = 0; at < tensor.elems; at += 5000) {
            const auto buffer = pool.Get(std::min<std::uint64_t>(5000, tensor.elems - at));
            REQUIRE(reader.ReadAndHash(tensor, at, buffer, &hasher).ok());
            if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 500));
          }
        }
        const auto digests = hasher.Finish();
        REQUIRE(digests.ok());
        CHECK(*digests == std::vector<std::string>(4, *want));
      }
      CHECK(stored == all);
      // Nothing that was brought is kept.
      CHECK(budget.held() == 0);
    }
  }
}

TEST_CASE("a resumed run on many threads reads what its digests lack, once", "[threads]") {
  const std::vector<SourceExtent> extents = {{0, 64, 100}, {0, 200, 300}, {1, 30, 500}, {1, 530, 70}, {2, 0, 90}};
  for (std::size_t first = 0; first <= extents.size(); ++first) {
    for (unsigned seed = 0; seed < 5; ++seed) {
      Scattered source({640, 600, 90}, extents);
      // Digests of several files were under way.
      const std::vector<SourceDigestState> done = {source.After(0, 333), source.After(1, 31), source.After(2, 1)};
      CHECK(source.Hash(SourceDigest::kSha256, done, first, 64, seed, 16) == source.Digests(SourceDigest::kSha256));
    }
  }
}

TEST_CASE("an error of one file ends the others, and that of the first file is told", "[threads]") {
  // Nothing is brought of files 1 and 3; the others are complete, before Finish() and after the error.
  Scattered source({64, 64, 64, 64, 64}, {{0, 0, 64}, {1, 0, 64}, {2, 0, 64}, {3, 0, 64}, {4, 0, 64}});
  MemoryBudget budget(kBudget);
  BufferMemory memory;
  BufferPool pool(&budget, &memory);
  const SourceReader reader(*source.checkpoint);
  {
    FileHasher hasher(*source.checkpoint, SourceDigest::kSha256, 16, {}, 0);
    for (const std::size_t i : {4, 2, 0}) {
      REQUIRE(reader.ReadAndHash(source.checkpoint->tensors()[i], 0, pool.Get(64), &hasher).ok());
    }
    const auto digests = hasher.Finish();
    CHECK(IssueNumberOf(digests.status()) == kSourceUnread.number);
    CHECK(MessageOf(digests.status()).find("f1") != std::string::npos);
  }
  CHECK(budget.held() == 0);
}

}  // namespace
}  // namespace q4
