#include "libconvert/model/decoder.h"

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "formats/base/status.h"
#include "tests/support/catch.h"
#include "tests/support/cpu_kernels.h"
#include "tests/support/q4_builder.h"
#include "tests/support/temp_dir.h"
#include "tests/support/weights.h"

namespace q4 {
namespace {

using test::Bytes;
using test::NormalBytes;
using test::Q4Builder;

constexpr std::uint64_t kElems = kQ4ChunkElems + 10'003;  // two chunks of codes, a tail block, an odd end

// Two quantized tensors in a file, "fp32" and "nested".
class Container {
 public:
  Container() {
    const Bytes bytes = NormalBytes(DType::kBF16, kElems, 5);
    Q4Builder builder;
    builder.AddQuantized("fp32", DType::kBF16, {kElems}, bytes, Q4Scheme::kFp4, 32, false);
    builder.AddQuantized("nested", DType::kBF16, {kElems}, bytes, Q4Scheme::kNf4, 64, true);
    builder.Write(PosixFileSystem(), path());
    Open();
  }

  void Open() {
    auto reader = Q4Reader::Open(PosixFileSystem(), path());
    REQUIRE(reader.ok());
    reader_ = *std::move(reader);
  }

  std::string path() const { return dir_.File("model.q4"); }
  const Q4Reader& reader() const { return *reader_; }
  const Q4Tensor& Tensor(const std::string& name) const {
    return reader_->index().tensors[static_cast<std::size_t>(reader_->FindTensor(name))];
  }

  // Changes the first byte of a part's first chunk.
  void Damage(const Q4Tensor& tensor, Q4Part part) {
    const std::uint64_t at = reader_->index().chunks[tensor.Part(part)->first_chunk].offset;
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(at));
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(byte);
  }

 private:
  test::TempDir dir_;
  std::unique_ptr<Q4Reader> reader_;
};

template <typename T>
std::vector<T> Copy(std::span<const T> items) {
  return {items.begin(), items.end()};
}

}  // namespace

TEST_CASE("any range of a part is read as it is stored, with a cache and without") {
  const Container container;
  const Q4Tensor& tensor = container.Tensor("nested");
  const auto whole = container.reader().ReadPart(tensor, Q4Part::kCodes);
  REQUIRE(whole.ok());
  ChunkCache cache;
  const std::uint64_t chunk = Q4ChunkRawSize(Q4Part::kCodes);
  for (ChunkCache* with : {static_cast<ChunkCache*>(nullptr), &cache}) {
    const ContainerPartReader parts(container.reader(), tensor, with);
    for (const auto& [begin, bytes] : {std::pair<std::uint64_t, std::uint64_t>{0, 0},
                                       {0, chunk},
                                       {chunk - 3, 7},
                                       {chunk, whole->size() - chunk},
                                       {0, whole->size()}}) {
      const auto got = parts.Read(Q4Part::kCodes, begin, bytes);
      REQUIRE(got.ok());
      const auto from = whole->begin() + static_cast<std::ptrdiff_t>(begin);
      CHECK(Copy(got->bytes()) == Bytes(from, from + static_cast<std::ptrdiff_t>(bytes)));
    }
  }
}

TEST_CASE("scales and values of any run of blocks are those of the whole tensor, with every kernel") {
  const ScopedFloatEnvironment environment;
  const Container container;
  for (const char* name : {"fp32", "nested"}) {
    const Q4Tensor& tensor = container.Tensor(name);
    const ContainerPartReader parts(container.reader(), tensor);
    const TensorDecoder scalar(ScalarKernels(), tensor, parts);
    const auto all = scalar.ReadScales(0, tensor.blocks());
    const auto codes = scalar.ReadCodes(0, tensor.elems);
    REQUIRE((all.ok() && codes.ok()));
    REQUIRE(all->decoded.size() == tensor.blocks());
    CHECK(all->scale_codes.size() == (tensor.nested ? tensor.blocks() : 0));
    CHECK(all->group_scales.size() == (tensor.nested ? GroupCount(tensor.blocks()) : 0));
    std::vector<float> values(tensor.elems);
    scalar.Decode(codes->data(), all->decoded.data(), tensor.elems, FloatType::kF32, values.data());

    for (const KernelTable* kernels : test::AllCpuKernels()) {
      INFO(name << ", " << kernels->name);
      const TensorDecoder decoder(*kernels, tensor, parts);
      for (const auto& [first, count] : {std::pair<std::uint64_t, std::uint64_t>{0, 1},
                                         {255, 2},
                                         {1000, 777},
                                         {512, 256},
                                         {tensor.blocks() - 1, 1}}) {
        const auto scales = decoder.ReadScales(first, count);
        REQUIRE(scales.ok());
        CHECK(Copy(scales->decoded) == Copy(all->decoded.subspan(first, count)));
        const std::uint64_t first_elem = first * tensor.block_size;
        const std::uint64_t elems = std::min(count * tensor.block_size, tensor.elems - first_elem);
        const auto some = decoder.ReadCodes(first_elem, elems);
        REQUIRE(some.ok());
        std::vector<float> decoded(elems);
        decoder.Decode(some->data(), scales->decoded.data(), elems, FloatType::kF32, decoded.data());
        CHECK(decoded == Copy(std::span<const float>(values).subspan(first_elem, elems)));
      }
    }
  }
}

TEST_CASE("of a damaged tensor's scales the codes are named before the group scales") {
  Container container;
  const Q4Tensor tensor = container.Tensor("nested");
  const auto message = [&] {
    const ContainerPartReader parts(container.reader(), container.Tensor("nested"));
    return MessageOf(TensorDecoder(ScalarKernels(), tensor, parts).ReadScales(0, 512).status());
  };
  container.Damage(tensor, Q4Part::kScales2);
  CHECK(message().find(Q4PartName(Q4Part::kScales2)) != std::string::npos);
  container.Damage(tensor, Q4Part::kScaleCodes);
  CHECK(message().find(std::string(Q4PartName(Q4Part::kScaleCodes)) + ",") != std::string::npos);
}

}  // namespace q4
